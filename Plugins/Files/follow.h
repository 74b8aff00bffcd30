/*
 * Watching the files that sources follow: one thread an instance, which wakes a source when there is something to
 * read. inotify says at once that a file was written, truncated, renamed or removed. What it cannot say (a new file
 * took the old one's name, a write through a memory map or on another machine) is looked for once every interval.
 */
#ifndef FILES_FOLLOW_H
#define FILES_FOLLOW_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watcher;

/* What a followed source embeds. All fields are the watcher's. Initialise with FOLLOWER_NONE. */
struct follower {
    uint64_t wake;
    size_t slot;                 /* in the list of those that wait; SIZE_MAX where it does not */
    int watch;                   /* inotify's number for the file; -1 without */
    struct follower *next, *previous; /* in the bucket of that number */
};
#define FOLLOWER_NONE ((struct follower){.slot = SIZE_MAX, .watch = -1})

/* Whether the source would have something to say now. Called by the watcher's thread while the follower waits. */
typedef bool follower_changed(struct follower *follower);

/* Starts the thread. `interval` in nanoseconds. NULL with a message. */
struct watcher *watcher_start(const chanserv_host *host, int64_t interval, follower_changed *changed,
                              chanserv_error *error);
/* Ends and joins the thread, after all followers were forgotten. */
void watcher_stop(struct watcher *watcher);

/* Asks the kernel to report on the open file `file` from now on, in place of the one before. */
void watcher_watch(struct watcher *watcher, struct follower *follower, int file);
/* The follower waits: wakes `wake` once at the next change. False where there is no memory. */
bool watcher_arm(struct watcher *watcher, struct follower *follower, uint64_t wake);
/* It no longer waits; `changed` is not running for it and will not be called. */
void watcher_disarm(struct watcher *watcher, struct follower *follower);
/* Drops all that concerns the follower. */
void watcher_forget(struct watcher *watcher, struct follower *follower);

#endif
