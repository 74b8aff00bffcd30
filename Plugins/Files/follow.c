#define _GNU_SOURCE
#include "follow.h"

#include "fail.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 1024

struct watcher {
    const chanserv_host *host;
    follower_changed *changed;
    int64_t interval;
    pthread_t thread;
    int wake_event; /* an eventfd that wakes the thread: the first follower waits, or the thread must end */
    int inotify; /* -1 if it is not available: then only the interval applies */

    pthread_mutex_t lock; /* protects all fields below, and is held while `changed` runs */
    bool stopping;
    struct follower **waiting;
    size_t count, capacity;
    struct follower *buckets[BUCKETS]; /* by watch descriptor; several sources may follow the same file */
};

static void wake_thread(struct watcher *watcher) {
    uint64_t one = 1;
    /* The write fails only if the counter is full. The thread is awake then. */
    ssize_t written = write(watcher->wake_event, &one, sizeof one);
    (void)written;
}

static void remove_waiting(struct watcher *watcher, struct follower *follower) {
    if (follower->slot == SIZE_MAX) {
        return;
    }
    struct follower *last = watcher->waiting[--watcher->count];
    watcher->waiting[follower->slot] = last;
    last->slot = follower->slot;
    follower->slot = SIZE_MAX;
}

static void wake(struct watcher *watcher, struct follower *follower) {
    if (follower->slot != SIZE_MAX) {
        remove_waiting(watcher, follower);
        watcher->host->wake(watcher->host, follower->wake);
    }
}

/* ---- The thread ---- */

static void wake_watch(struct watcher *watcher, int watch) {
    pthread_mutex_lock(&watcher->lock);
    for (struct follower *f = watcher->buckets[(unsigned)watch % BUCKETS]; f != NULL; f = f->next) {
        if (f->watch == watch) {
            wake(watcher, f);
        }
    }
    pthread_mutex_unlock(&watcher->lock);
}

/* Handles the reports of the kernel. Returns false if the kernel had to drop reports. */
static bool read_events(struct watcher *watcher) {
    _Alignas(struct inotify_event) char buffer[16384];
    for (;;) {
        ssize_t size = read(watcher->inotify, buffer, sizeof buffer);
        if (size <= 0) {
            return true;
        }
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            if (event->wd < 0) {
                return false;
            }
            wake_watch(watcher, event->wd);
            at += sizeof *event + event->len;
        }
    }
}

/* Checks all waiting followers. The lock is released after each, so that other threads wait for one check at most. */
static void check_all(struct watcher *watcher) {
    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&watcher->lock);
        bool more = i < watcher->count && !watcher->stopping;
        if (more) {
            struct follower *follower = watcher->waiting[i];
            if (watcher->changed(follower)) {
                /* The last follower takes its place and is missed this time. The next interval checks it. */
                wake(watcher, follower);
            }
        }
        pthread_mutex_unlock(&watcher->lock);
        if (!more) {
            return;
        }
    }
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void *run(void *argument) {
    struct watcher *watcher = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    int64_t due = now() + watcher->interval;
    for (;;) {
        pthread_mutex_lock(&watcher->lock);
        bool stopping = watcher->stopping, idle = watcher->count == 0;
        pthread_mutex_unlock(&watcher->lock);
        if (stopping) {
            return NULL;
        }
        int64_t left = due - now();
        if (!idle && left <= 0) {
            check_all(watcher);
            due = now() + watcher->interval;
            continue;
        }
        struct pollfd files[] = {{.fd = watcher->wake_event, .events = POLLIN},
                                 {.fd = watcher->inotify, .events = POLLIN}};
        struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        if (ppoll(files, 2, idle ? NULL : &timeout, NULL) <= 0) {
            continue;
        }
        if (files[0].revents != 0) {
            uint64_t count;
            ssize_t taken = read(watcher->wake_event, &count, sizeof count);
            (void)taken;
            if (idle) {
                due = now() + watcher->interval;
            }
        }
        if (files[1].revents != 0 && !read_events(watcher)) {
            due = now();
        }
    }
}

/* ---- Functions for sources ---- */

static void unwatch(struct watcher *watcher, struct follower *follower) {
    if (follower->watch < 0) {
        return;
    }
    struct follower **bucket = &watcher->buckets[(unsigned)follower->watch % BUCKETS];
    *(follower->previous != NULL ? &follower->previous->next : bucket) = follower->next;
    if (follower->next != NULL) {
        follower->next->previous = follower->previous;
    }
    bool shared = false;
    for (struct follower *f = *bucket; f != NULL; f = f->next) {
        shared |= f->watch == follower->watch;
    }
    if (!shared) {
        /* Fails if the file is gone, and its watch with it. Watch descriptors are not reused. */
        (void)inotify_rm_watch(watcher->inotify, follower->watch);
    }
    follower->watch = -1;
}

void watcher_watch(struct watcher *watcher, struct follower *follower, int file) {
    pthread_mutex_lock(&watcher->lock);
    unwatch(watcher, follower);
    if (watcher->inotify >= 0) {
        /* Watches the open file, even if its name refers to another file now. */
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
        follower->watch =
            inotify_add_watch(watcher->inotify, path, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
    }
    if (follower->watch >= 0) {
        struct follower **bucket = &watcher->buckets[(unsigned)follower->watch % BUCKETS];
        follower->previous = NULL;
        follower->next = *bucket;
        if (*bucket != NULL) {
            (*bucket)->previous = follower;
        }
        *bucket = follower;
    }
    pthread_mutex_unlock(&watcher->lock);
}

bool watcher_arm(struct watcher *watcher, struct follower *follower, uint64_t wake) {
    pthread_mutex_lock(&watcher->lock);
    if (watcher->count == watcher->capacity) {
        size_t capacity = watcher->capacity == 0 ? 64 : watcher->capacity * 2;
        struct follower **grown = reallocarray(watcher->waiting, capacity, sizeof *grown);
        if (grown == NULL) {
            pthread_mutex_unlock(&watcher->lock);
            return false;
        }
        watcher->waiting = grown;
        watcher->capacity = capacity;
    }
    follower->wake = wake;
    follower->slot = watcher->count;
    watcher->waiting[watcher->count++] = follower;
    if (watcher->count == 1) {
        wake_thread(watcher);
    }
    pthread_mutex_unlock(&watcher->lock);
    return true;
}

void watcher_disarm(struct watcher *watcher, struct follower *follower) {
    pthread_mutex_lock(&watcher->lock);
    remove_waiting(watcher, follower);
    pthread_mutex_unlock(&watcher->lock);
}

void watcher_forget(struct watcher *watcher, struct follower *follower) {
    pthread_mutex_lock(&watcher->lock);
    remove_waiting(watcher, follower);
    unwatch(watcher, follower);
    pthread_mutex_unlock(&watcher->lock);
}

/* ---- Start and stop ---- */

struct watcher *watcher_start(const chanserv_host *host, int64_t interval, follower_changed *changed,
                              chanserv_error *error) {
    struct watcher *watcher = calloc(1, sizeof *watcher);
    if (watcher == NULL) {
        fail(error, CHANSERV_ERROR_INTERNAL, "no memory to follow files");
        return NULL;
    }
    watcher->host = host;
    watcher->interval = interval;
    watcher->changed = changed;
    watcher->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watcher->wake_event < 0) {
        fail_errno(error, errno, "no descriptor to follow files", "eventfd");
        free(watcher);
        return NULL;
    }
    watcher->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watcher->inotify < 0) {
        log_line(host, CHANSERV_LOG_WARNING,
                 "inotify is not available: changes of followed files are detected only once every follow_interval");
    }
    pthread_mutex_init(&watcher->lock, NULL);
    int code = pthread_create(&watcher->thread, NULL, run, watcher);
    if (code != 0) {
        fail_errno(error, code, "no thread to follow files", "pthread_create");
        pthread_mutex_destroy(&watcher->lock);
        close(watcher->wake_event);
        if (watcher->inotify >= 0) {
            close(watcher->inotify);
        }
        free(watcher);
        return NULL;
    }
    return watcher;
}

void watcher_stop(struct watcher *watcher) {
    pthread_mutex_lock(&watcher->lock);
    watcher->stopping = true;
    pthread_mutex_unlock(&watcher->lock);
    wake_thread(watcher);
    pthread_join(watcher->thread, NULL);
    pthread_mutex_destroy(&watcher->lock);
    close(watcher->wake_event);
    if (watcher->inotify >= 0) {
        close(watcher->inotify);
    }
    free(watcher->waiting);
    free(watcher);
}
