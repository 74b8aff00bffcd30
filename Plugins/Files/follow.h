/*
 * The watcher of followed files: one thread per instance, which wakes a source when its file has changed. inotify
 * reports at once that a file was written, truncated, renamed or removed. Other changes (a new file with the same name,
 * a write through a memory map or from another machine) are found by a check once per interval.
 */
#ifndef FILES_FOLLOW_H
#define FILES_FOLLOW_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watcher;

/* The part of a followed source that belongs to the watcher. Initialise it with FOLLOWER_NONE. */
struct follower {
    uint64_t wake;
    size_t slot;                 /* index in the list of waiting followers; SIZE_MAX if it does not wait */
    int watch;                   /* inotify watch descriptor; -1 if there is none */
    struct follower *next, *previous; /* list in the hash bucket of the watch descriptor */
};
#define FOLLOWER_NONE ((struct follower){.slot = SIZE_MAX, .watch = -1})

/* Returns whether a poll of the source would find a change. The watcher's thread calls it while the follower waits. */
typedef bool follower_changed(struct follower *follower);

/* Starts the thread. `interval` is in nanoseconds. Returns NULL and a message if it fails. */
struct watcher *watcher_start(const chanserv_host *host, int64_t interval, follower_changed *changed,
                              chanserv_error *error);
/* Stops and joins the thread. The caller must have called watcher_forget for all followers. */
void watcher_stop(struct watcher *watcher);

/* Watches the open file `file` with inotify, instead of the follower's previous file. */
void watcher_watch(struct watcher *watcher, struct follower *follower, int file);
/* Makes the follower wait: the next change calls host->wake with `wake`, once. Returns false if there is no memory. */
bool watcher_arm(struct watcher *watcher, struct follower *follower, uint64_t wake);
/* Ends the waiting. After it returns, `changed` does not run for this follower. */
void watcher_disarm(struct watcher *watcher, struct follower *follower);
/* Ends the waiting and the watch, so that the follower can be freed. */
void watcher_forget(struct watcher *watcher, struct follower *follower);

#endif
