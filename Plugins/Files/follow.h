/*
 * Watches files that sources follow. Each instance has one thread, which wakes a source when there is something to
 * read. inotify reports at once that a file was written, truncated, renamed or removed. It does not report that a new
 * file took the old one's name, or writes through a memory map or on another machine. The thread checks for these once
 * in every interval.
 */
#ifndef FILES_FOLLOW_H
#define FILES_FOLLOW_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watcher;

/*
 * The state of a followed source, which embeds it. All fields belong to the watcher. Initialise it with FOLLOWER_NONE.
 */
struct follower {
    uint64_t wake;
    size_t slot;                 /* index in the list of waiting followers; SIZE_MAX if it does not wait */
    int watch;                   /* inotify's watch descriptor of the file; -1 for none */
    struct follower *next, *previous; /* in the bucket of that descriptor */
};
#define FOLLOWER_NONE ((struct follower){.slot = SIZE_MAX, .watch = -1})

/* Whether there is anything new for the source. The watcher's thread calls it while the follower waits. */
typedef bool follower_changed(struct follower *follower);

/* Starts the thread. `interval` is in nanoseconds. Returns NULL and a message after an error. */
struct watcher *watcher_start(const chanserv_host *host, int64_t interval, follower_changed *changed,
                              chanserv_error *error);
/* Ends and joins the thread. All followers must be forgotten before. */
void watcher_stop(struct watcher *watcher);

/* Requests reports of the kernel for the open file `file`, in place of the previous one. */
void watcher_watch(struct watcher *watcher, struct follower *follower, int file);
/* Makes the follower wait: `wake` is woken once at the next change. Returns false if there is no memory. */
bool watcher_arm(struct watcher *watcher, struct follower *follower, uint64_t wake);
/* Stops waiting. Afterwards `changed` is not running for the follower and will not be called. */
void watcher_disarm(struct watcher *watcher, struct follower *follower);
/* Removes the follower from the watcher. */
void watcher_forget(struct watcher *watcher, struct follower *follower);

#endif
