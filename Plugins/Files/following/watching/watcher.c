#define _GNU_SOURCE
#include "following/watching/watcher.h"

#include "fail.h"
#include "following/tracking/tracker.h"
#include "following/watching/folder_watch.h"
#include "following/watching/watcher_state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

int64_t monotonic_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- Reports ---- */

void tracker_mark(struct tracker *tracker) {
    if (!tracker->dirty) {
        tracker->dirty = true;
        tracker->next_dirty = tracker->watcher->dirty;
        tracker->watcher->dirty = tracker;
    }
}

void tracker_wake_followers(struct tracker *tracker, const struct follower *except) {
    struct watcher *watcher = tracker->watcher;
    for (struct follower *follower = tracker->followers; follower != NULL; follower = follower->next) {
        if (follower->waiting && follower != except) {
            follower->waiting = false;
            watcher->host->wake(watcher->host, follower->wake);
        }
    }
}

/* Processes all reports and brings the trackers that they concern up to date. */
void watcher_process(struct watcher *watcher, const struct follower *except) {
    watcher_drain(watcher);
    while (watcher->dirty != NULL) {
        struct tracker *tracker = watcher->dirty;
        watcher->dirty = tracker->next_dirty;
        tracker->dirty = false;
        tracker_update(tracker);
        tracker_wake_followers(tracker, except);
    }
}

/* ---- Trackers ---- */

static size_t bucket_of(const char *path) {
    uint32_t hash = 2166136261u;
    for (; *path != '\0'; path++) {
        hash = (hash ^ (unsigned char)*path) * 16777619u;
    }
    return hash % BUCKETS;
}

void watcher_remove_tracker(struct watcher *watcher, struct tracker *tracker) {
    if (tracker->dirty) {
        struct tracker **at = &watcher->dirty;
        while (*at != tracker) {
            at = &(*at)->next_dirty;
        }
        *at = tracker->next_dirty;
    }
    struct tracker **at = &watcher->by_path[bucket_of(tracker->path)];
    while (*at != tracker) {
        at = &(*at)->bucket_next;
    }
    *at = tracker->bucket_next;
    if (watcher->cursor == tracker) {
        watcher->cursor = tracker->next;
    }
    *(tracker->previous != NULL ? &tracker->previous->next : &watcher->trackers) = tracker->next;
    if (tracker->next != NULL) {
        tracker->next->previous = tracker->previous;
    }
    watcher->uses--;
    tracker_free(tracker);
}

static void wake_thread(struct watcher *watcher) {
    uint64_t one = 1;
    /* The write fails only if the counter is full. The thread is awake then. */
    ssize_t written = write(watcher->wake_event, &one, sizeof one);
    (void)written;
}

void watcher_add_use(struct watcher *watcher) {
    watcher->uses++;
    if (watcher->idle) {
        watcher->idle = false;
        wake_thread(watcher);
    }
}

struct tracker *watcher_tracker(struct watcher *watcher, struct root *root, const char *path) {
    struct tracker **bucket = &watcher->by_path[bucket_of(path)];
    for (struct tracker *tracker = *bucket; tracker != NULL; tracker = tracker->bucket_next) {
        if (strcmp(tracker->path, path) == 0 && is_same_file(&tracker->root->is, &root->is)) {
            return tracker;
        }
    }
    struct tracker *tracker = tracker_new(watcher, root, path);
    if (tracker == NULL) {
        return NULL;
    }
    tracker->bucket_next = *bucket;
    *bucket = tracker;
    tracker->next = watcher->trackers;
    if (tracker->next != NULL) {
        tracker->next->previous = tracker;
    }
    watcher->trackers = tracker;
    watcher_add_use(watcher);
    tracker_tick(tracker);
    return tracker;
}

/* ---- The thread ---- */

/* Checks all trackers. The lock is released after each, so that other threads wait for one check at most. */
static void check_all(struct watcher *watcher) {
    pthread_mutex_lock(&watcher->lock);
    watcher->cursor = watcher->trackers;
    int64_t now = monotonic_now();
    for (struct folder_watch *request = watcher->requests; request != NULL; request = request->next) {
        folder_watch_wake(watcher, request);
    }
    while (watcher->cursor != NULL && !watcher->stopping) {
        struct tracker *tracker = watcher->cursor;
        watcher->cursor = tracker->next;
        if (tracker->followers == NULL && now - tracker->idle_since >= watcher->limits.window) {
            watcher_remove_tracker(watcher, tracker);
        } else {
            watcher_process(watcher, NULL);
            uint64_t before = watcher->events;
            tracker_tick(tracker);
            if (watcher->events != before || tracker->retry) {
                tracker->retry = false;
                tracker_wake_followers(tracker, NULL);
            }
        }
        pthread_mutex_unlock(&watcher->lock);
        pthread_mutex_lock(&watcher->lock);
    }
    watcher->cursor = NULL;
    pthread_mutex_unlock(&watcher->lock);
}

static void *run(void *argument) {
    struct watcher *watcher = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    int64_t due = monotonic_now() + watcher->limits.interval;
    for (;;) {
        pthread_mutex_lock(&watcher->lock);
        watcher_process(watcher, NULL);
        bool stopping = watcher->stopping;
        bool idle = watcher->idle = watcher->uses == 0;
        pthread_mutex_unlock(&watcher->lock);
        if (stopping) {
            return NULL;
        }
        int64_t left = due - monotonic_now();
        if (!idle && left <= 0) {
            check_all(watcher);
            due = monotonic_now() + watcher->limits.interval;
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
                due = monotonic_now() + watcher->limits.interval;
            }
        }
    }
}

/* ---- Start and stop ---- */

struct watcher *watcher_start(const chanserv_host *host, const struct follow_limits *limits, chanserv_error *error) {
    struct watcher *watcher = calloc(1, sizeof *watcher);
    if (watcher == NULL) {
        fail(error, CHANSERV_ERROR_INTERNAL, "no memory to follow files");
        return NULL;
    }
    watcher->host = host;
    watcher->limits = *limits;
    watcher->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watcher->wake_event < 0) {
        fail_errno(error, errno, "no descriptor to follow files", "eventfd");
        free(watcher);
        return NULL;
    }
    watcher->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watcher->inotify < 0) {
        watch_warn(watcher, "inotify_init", errno);
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
    while (watcher->trackers != NULL) {
        watcher_remove_tracker(watcher, watcher->trackers);
    }
    pthread_mutex_destroy(&watcher->lock);
    close(watcher->wake_event);
    if (watcher->inotify >= 0) {
        close(watcher->inotify);
    }
    free(watcher);
}
