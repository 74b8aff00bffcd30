#define _GNU_SOURCE
#include "following/watching/watch.h"

#include "fail.h"
#include "following/tracking/tracker.h"
#include "following/watching/folder_watch.h"
#include "following/watching/watcher_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Maximum bytes of reports that are processed in one go although they came later. */
#define DRAIN_MORE ((ssize_t)1 << 20)
#define FILE_EVENTS (IN_MODIFY | IN_ATTRIB)
#define FOLDER_EVENTS                                                                                                  \
    (IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

void watch_warn(struct watcher *watcher, const char *call, int code) {
    if (!watcher->warned) {
        watcher->warned = true;
        char text[128];
        log_line(watcher->host, CHANSERV_LOG_WARNING,
                 "%s failed: %s: some changes of followed files are detected only once every follow_interval. Raise "
                 "fs.inotify.max_user_watches and fs.inotify.max_user_instances",
                 call, strerror_r(code, text, sizeof text));
    }
}

void watch_remove(struct watcher *watcher, struct watch *watch) {
    if (watch->number < 0) {
        return;
    }
    struct watch **bucket = &watcher->watches[(unsigned)watch->number % BUCKETS];
    *(watch->previous != NULL ? &watch->previous->next : bucket) = watch->next;
    if (watch->next != NULL) {
        watch->next->previous = watch->previous;
    }
    bool shared = false;
    for (struct watch *other = *bucket; other != NULL; other = other->next) {
        shared |= other->number == watch->number;
    }
    if (!shared) {
        /* Fails if the file is gone, and its watch with it. Watch descriptors are not reused. */
        (void)inotify_rm_watch(watcher->inotify, watch->number);
    }
    watch->number = -1;
}

void watch_add(struct watcher *watcher, struct watch *watch, int file) {
    watch_remove(watcher, watch);
    if (watcher->inotify < 0) {
        return;
    }
    /* Watches the open file, even if its name refers to another file now. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
#ifdef FILES_WITHOUT_WATCHES /* for tests */
    errno = ENOSPC;
#else
    watch->number = inotify_add_watch(watcher->inotify, path, watch->folder ? FOLDER_EVENTS : FILE_EVENTS);
#endif
    if (watch->number < 0) {
        if (errno == ENOSPC || errno == ENOMEM) {
            watch_warn(watcher, "inotify_add_watch", errno);
        }
        return;
    }
    struct watch **bucket = &watcher->watches[(unsigned)watch->number % BUCKETS];
    watch->previous = NULL;
    watch->next = *bucket;
    if (*bucket != NULL) {
        (*bucket)->previous = watch;
    }
    *bucket = watch;
}

static void handle_event(struct watcher *watcher, const struct inotify_event *event) {
    watcher->events++;
    if (event->wd < 0) {
        /* The kernel had to drop reports. */
        for (struct tracker *tracker = watcher->trackers; tracker != NULL; tracker = tracker->next) {
            tracker->scans = true;
            tracker_mark(tracker);
        }
        for (struct folder_watch *request = watcher->requests; request != NULL; request = request->next) {
            folder_watch_wake(watcher, request);
        }
        return;
    }
    for (struct watch *watch = watcher->watches[(unsigned)event->wd % BUCKETS]; watch != NULL; watch = watch->next) {
        if (watch->number != event->wd) {
            continue;
        }
        if (watch->request != NULL) {
            if ((event->mask & (IN_CREATE | IN_MOVED_TO | IN_ATTRIB)) != 0) {
                folder_watch_wake(watcher, watch->request);
            }
        } else if (watch->folder && event->len > 0) {
            tracker_event(watch->tracker, event->mask, event->cookie, event->name);
        } else {
            tracker_mark(watch->tracker);
        }
    }
}

bool watcher_drain(struct watcher *watcher) {
    _Alignas(struct inotify_event) char buffer[16384];
    int queued;
    if (watcher->inotify < 0 || ioctl(watcher->inotify, FIONREAD, &queued) != 0) {
        return false;
    }
    bool any = false;
    /* Reports that come meanwhile save a pass over the generations, but must not keep this thread here for ever. */
    for (ssize_t left = (ssize_t)queued + DRAIN_MORE, size; left > 0; left -= size) {
        size = read(watcher->inotify, buffer, sizeof buffer);
        if (size <= 0) {
            break;
        }
        any = true;
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            handle_event(watcher, event);
            at += sizeof *event + event->len;
        }
    }
    return any;
}
