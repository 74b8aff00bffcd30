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
 *   truncated         the generation continues in the copy that was made before (copytruncate), found by its first bytes
 *   new match         see `watcher_watch_folder`
 *
 * A source reads no further than the size that the tracker knows, and checks after each read that the bytes before its
 * position have not changed. So a truncation between the two is noticed, even if the file has grown again.
 *
 * Without inotify the thread checks everything once in every interval, and finds missed files by their names.
 */
#ifndef FILES_FOLLOW_H
#define FILES_FOLLOW_H

#include "chanserv_plugin.h"
#include "reader.h"
#include "root.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watcher;
struct tracker;
struct generation;
struct shared_file;

/* A position in a followed path, from the header of a source and the bytes that a client has read. */
struct resume {
    char *path;
    uint64_t inode;
    off_t offset;
    uint64_t stream, number; /* the tracker and the generation; 0: unknown */
};

/* The state of a followed source, which embeds it. All fields belong to the watcher. */
struct follower {
    struct tracker *tracker;
    struct follower *next, *previous; /* of the same tracker */
    uint64_t wake;
    bool waiting;
    bool moved;               /* `at` was changed by the tracker: the reader begins with it */
    struct generation *at;    /* the generation that the source reads; NULL: the first one that will exist */
    struct shared_file *file; /* of that generation, while the source is polled */
    unsigned version;         /* of the generation's file when it was opened */
};

/* Limits of an instance. */
struct follow_limits {
    int64_t interval, window; /* nanoseconds; rotated files are kept for `window` for clients that resume */
    size_t open_files;
    atomic_size_t *open; /* counts the files that stay open between polls */
};

/* Starts the thread. Returns NULL and a message after an error. */
struct watcher *watcher_start(const chanserv_host *host, const struct follow_limits *limits, chanserv_error *error);
/* Ends and joins the thread. All followers and folder watches must be forgotten before. */
void watcher_stop(struct watcher *watcher);

/*
 * Begins to follow `path`. Without `resume` the follower begins with the file that has the name now, or with the first
 * one that gets it. Prepares `reader`, which the other functions need too. Returns CHANSERV_READY; CHANSERV_PENDING if
 * there is no file yet; or an error.
 */
chanserv_status watcher_follow(struct watcher *watcher, struct follower *follower, struct root *root, const char *path,
                               const struct resume *resume, struct reader *reader, chanserv_error *error);
void watcher_forget(struct watcher *watcher, struct follower *follower);

enum next_result {
    NEXT_DATA,  /* the reader may read up to its limit */
    NEXT_WHOLE, /* as NEXT_DATA, and the bytes behind the last line ending are a frame too */
    NEXT_WAIT,  /* there is nothing; `wake` will be woken */
    NEXT_DENIED /* the first file of the follower cannot be opened: errno */
};

/* Finds what to read next. `changed`: reader_read has returned READ_CHANGED. */
enum next_result watcher_next(struct watcher *watcher, struct follower *follower, struct reader *reader, bool changed,
                              uint64_t wake);
/* Reports that the end of a compressed generation was reached at the reader's position. */
void watcher_reached_end(struct watcher *watcher, struct follower *follower, struct reader *reader);
/* Ends a poll: closes the file unless it may stay open. */
void watcher_rest(struct watcher *watcher, struct follower *follower, struct reader *reader);
/* Stops waiting. Afterwards no wake comes. */
void watcher_disarm(struct watcher *watcher, struct follower *follower);
/* Records that the reader skips bytes of its generation. */
void watcher_skipped(struct watcher *watcher, struct follower *follower, off_t from, off_t size, const char *reason);

/* Describes a position in the follower's generation. */
struct resume watcher_position(struct watcher *watcher, const struct follower *follower, off_t offset);

/* ---- Folders in which new matches are expected ---- */

/* One use of a watch descriptor. Several uses may share a descriptor. */
struct watch {
    int number; /* -1: none */
    struct watch *next, *previous; /* in the bucket of the number */
    struct tracker *tracker;       /* NULL: of a request */
    struct folder_watch *request;
    bool folder;
};

/* Maximum folders of a request that are watched; further ones are checked in every interval only. */
#define FOLDERS_MAX 256

/* Requests for which `wake` is called when a name appears in one of their folders, and once in every interval. */
struct folder_watch {
    struct folder_watch *next, *previous;
    uint64_t wake;
    bool waiting, changed;
    size_t count;
    struct watch watches[FOLDERS_MAX];
};

void watcher_add_request(struct watcher *watcher, struct folder_watch *request);
void watcher_watch_folder(struct watcher *watcher, struct folder_watch *request, int folder);
/* Makes the request wait. Returns false if something has changed since the last call: then it does not wait. */
bool watcher_arm_request(struct watcher *watcher, struct folder_watch *request, uint64_t wake);
void watcher_remove_request(struct watcher *watcher, struct folder_watch *request);
/* Whether the file is a generation of a path that is followed, or may be the copy of one. */
bool watcher_knows(struct watcher *watcher, const struct identity *file);

#endif
