/*
 * Follows files across rotations. Each followed path has one tracker, which all sources of that path share. The tracker
 * is a list of generations: what the path has held, in order. A generation ends when another file that has data takes
 * the name, or when its file is truncated. Sources read one generation after the other, each to its end.
 *
 * Each instance has one thread. inotify reports what happens to the files and in their folders. The reports are
 * processed under one lock, in their order, by the thread or by a source that is at the end of its generation:
 *
 *   event             effect
 *   create, moved to  a new generation has the name; it is opened at once, so that it stays readable if it is removed
 *   moved from … to   the name of a generation changes; its rest is read before the next generation
 *   delete            a generation that is open is read to its end
 *   modify            the size of the newest generation; smaller, or other first bytes: it was truncated
 *   truncated         the generation continues in the copy that was made before (copytruncate), by its first bytes
 *   new match         see folder_watch.h
 *
 * A source reads no further than the size that the tracker knows, and checks after each read that the bytes before its
 * position have not changed. So a truncation between the two is noticed, even if the file has grown again.
 *
 * Without inotify the thread checks everything once in every interval, and finds missed files by their names.
 *
 * The files of this folder:
 *
 *   watcher       the thread, and the trackers by their paths
 *   watch         inotify: which report is for which tracker or request
 *   folder_watch  requests that wait for new files
 *   follower      a source that is followed: what it reads next, and its position
 *   tracker       one path: the checks in every interval, and the passes over its generations
 *   generation    one generation
 *   generations   the list of generations, the files that stay open, and what is forgotten or lost
 *   events        reports about names: which generation has which name
 *   files         the files of a tracker in its folder, by name or by listing the folder
 *   copies        possible copies of a truncated file
 *   check         the size and the first bytes of a file: it grew, was truncated or has ended
 *   resume        positions of clients
 */
#ifndef FILES_WATCHER_H
#define FILES_WATCHER_H

#include "chanserv_plugin.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct watcher;

/* Limits of an instance. */
struct follow_limits {
    int64_t interval, window; /* nanoseconds; rotated files are kept for `window` for clients that resume */
    size_t open_files;
    atomic_size_t *open; /* counts the files that stay open between polls */
};

/* Starts the thread. Returns NULL and a message after an error. */
struct watcher *watcher_start(const chanserv_host *host, const struct follow_limits *limits, chanserv_error *error);
/* Ends and joins the thread. All followers and folder watches must have ended before. */
void watcher_stop(struct watcher *watcher);

#endif
