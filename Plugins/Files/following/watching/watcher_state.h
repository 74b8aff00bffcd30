/* The watcher of an instance, for the files of this folder. */
#ifndef FILES_WATCHER_STATE_H
#define FILES_WATCHER_STATE_H

#include "folders/root.h"
#include "following/watching/watcher.h"

#include <pthread.h>
#include <stdbool.h>

struct follower;
struct folder_watch;
struct tracker;
struct watch;

/* Number of buckets of its two tables. */
#define BUCKETS 1024

/*
 * A tracker is in `by_path` and `trackers` from its creation to its end, and in `dirty` while its own flag says so.
 * The thread waits without a timeout while `idle` is set, which is only the case without trackers and requests.
 */
struct watcher {
    const chanserv_host *host;
    struct follow_limits limits;
    pthread_t thread;
    int wake_event; /* an eventfd that wakes the thread: something waits, or the thread must end */
    int inotify;    /* -1 if it is not available: then only the interval applies */

    pthread_mutex_t lock; /* protects all fields below and all trackers */
    bool stopping, idle, warned;
    size_t uses; /* trackers and requests */
    uint64_t events; /* number of events and generations so far */
    struct watch *watches[BUCKETS];
    struct tracker *by_path[BUCKETS];
    struct tracker *trackers, *cursor, *dirty;
    struct folder_watch *requests;
};

/* All functions are called with the lock held. */

/* Processes all reports, brings the trackers that they concern up to date, and wakes their followers but `except`. */
void watcher_process(struct watcher *watcher, const struct follower *except);
/* Returns the tracker of a path, a new one if there is none; NULL if there is no memory. */
struct tracker *watcher_tracker(struct watcher *watcher, struct root *root, const char *path);
void watcher_remove_tracker(struct watcher *watcher, struct tracker *tracker);
/* Counts a tracker or request. The thread begins to check in every interval. */
void watcher_add_use(struct watcher *watcher);

int64_t monotonic_now(void);

#endif
