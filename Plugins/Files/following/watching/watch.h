/* Watches of inotify, and the reports that come through them. All functions are called with the watcher's lock held. */
#ifndef FILES_WATCH_H
#define FILES_WATCH_H

#include <stdbool.h>

struct watcher;
struct tracker;
struct folder_watch;

/*
 * One use of a watch descriptor. Several uses may share a descriptor; the last one that is removed removes it. A watch
 * belongs to a tracker or to a request, and is in the watcher's table while `number` is not -1.
 */
struct watch {
    int number; /* -1: none */
    struct watch *next, *previous; /* in the bucket of the number */
    struct tracker *tracker;       /* NULL: of a request */
    struct folder_watch *request;
    bool folder;
};

/* Logs, once in the life of the watcher, that `call` failed with `code`. */
void watch_warn(struct watcher *watcher, const char *call, int code);
/* Watches the open file instead of what `watch` has watched before. */
void watch_add(struct watcher *watcher, struct watch *watch, int file);
void watch_remove(struct watcher *watcher, struct watch *watch);
/* Processes all reports that the kernel has now, and some that come meanwhile. Returns whether there were any. */
bool watcher_drain(struct watcher *watcher);

#endif
