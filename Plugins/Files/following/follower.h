/* The functions by which a source follows a path. They take the watcher's lock. */
#ifndef FILES_FOLLOWER_H
#define FILES_FOLLOWER_H

#include "chanserv_plugin.h"
#include "folders/root.h"
#include "following/position.h"
#include "following/watching/watcher.h"
#include "reading/reader.h"

#include <stdbool.h>
#include <stdint.h>

struct tracker;
struct generation;
struct shared_file;

/*
 * The state of a followed source, which embeds it. All fields belong to the watcher. From follower_begin to
 * follower_end it is in the list of its tracker, which keeps `at` and all later generations for it.
 */
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

/*
 * Begins to follow `path`. Without `resume` the follower begins with the file that has the name now, or with the first
 * one that gets it. Prepares `reader`, which the other functions need too. Returns CHANSERV_READY; CHANSERV_PENDING if
 * there is no file yet; or an error.
 */
chanserv_status follower_begin(struct watcher *watcher, struct follower *follower, struct root *root, const char *path,
                               const struct resume *resume, struct reader *reader, chanserv_error *error);
void follower_end(struct watcher *watcher, struct follower *follower);

enum next_result {
    NEXT_DATA,  /* the reader may read up to its limit */
    NEXT_WHOLE, /* as NEXT_DATA, and the bytes behind the last line ending are a frame too */
    NEXT_WAIT,  /* there is nothing; `wake` will be woken */
    NEXT_DENIED /* the first file of the follower cannot be opened: errno */
};

/* Finds what to read next. `changed`: reader_read has returned READ_CHANGED. */
enum next_result follower_next(struct watcher *watcher, struct follower *follower, struct reader *reader, bool changed,
                               uint64_t wake);
/* Reports that the end of a compressed generation was reached at the reader's position. */
void follower_reached_end(struct watcher *watcher, struct follower *follower, struct reader *reader);
/* Ends a poll: closes the file unless it may stay open. */
void follower_rest(struct watcher *watcher, struct follower *follower, struct reader *reader);
/* Stops waiting. Afterwards no wake comes. */
void follower_disarm(struct watcher *watcher, struct follower *follower);
/* Records that the reader skips bytes of its generation. */
void follower_skipped(struct watcher *watcher, struct follower *follower, off_t from, off_t size, const char *reason);

/* Describes a position in the follower's generation. */
struct resume follower_position(struct watcher *watcher, const struct follower *follower, off_t offset);

#endif
