/* One followed path and its generations. All functions are called with the watcher's lock held. */
#ifndef FILES_TRACKER_H
#define FILES_TRACKER_H

#include "folders/root.h"
#include "following/follower.h"
#include "following/generations/generation.h"
#include "following/watching/watcher_state.h"

#define COPIES_MAX 128
/* Maximum generations of a tracker. */
#define GENERATIONS_MAX 4096
/* Maximum generations that are kept although no follower needs them. */
#define HISTORY_MAX 256
/* Maximum ended generations whose length is remembered. */
#define LENGTHS_MAX 65536

/*
 * The generations are in the order of their content, oldest first, and their numbers rise. Events only append to the
 * two lists: an index stays valid while events are processed. Only tracker_update and the functions that it calls
 * insert before others, and drop. `lengths` are those of the generations directly before the first one of the list,
 * without a gap.
 */
struct tracker {
    struct watcher *watcher;
    struct tracker *next, *previous; /* of all trackers */
    struct tracker *bucket_next;     /* by path */
    struct tracker *next_dirty;
    bool dirty;
    bool retry; /* a file could not be opened for lack of something */
    bool scans; /* files may have been missed: finds them by their names */
    struct root *root;
    char *path;
    /* The folder: a descriptor of the root and a path beneath it. It is not kept open, because many may be followed. */
    int base; /* -1 if the folder was not found yet */
    char *place;
    struct identity folder_is;
    char name[NAME_SIZE];
    struct watch folder_watch;
    uint32_t foreign_cookie; /* of a rotated file that is not in the lists and is being renamed */
    uint64_t arrivals; /* number of generations and possible copies that events have announced */
    int denied; /* why the newest file cannot be opened; 0 */
    struct follower *followers;
    int64_t idle_since;
    uint64_t stream, next_number;
    struct generation **generations;
    size_t count, capacity;
    /* New files in the folder that may be copies of the followed one. */
    struct generation *copies[COPIES_MAX];
    size_t copy_count;
    /* Generations that are no longer in the list: how many bytes of each were sent. */
    struct past {
        uint64_t number;
        off_t length;
    } *lengths;
    size_t length_count, length_capacity;
    /* What was not sent. */
    uint64_t lost_files, lost_bytes, told_files, told_bytes;
    int64_t told_at;
};

struct tracker *tracker_new(struct watcher *watcher, struct root *root, const char *path);
void tracker_free(struct tracker *tracker);
/* Notes that the tracker must be brought up to date. */
void tracker_mark(struct tracker *tracker);
/* Handles a report about a name in the tracker's folder. */
void tracker_event(struct tracker *tracker, uint32_t mask, uint32_t cookie, const char *name);
/* Brings the generations up to date. */
void tracker_update(struct tracker *tracker);
/* Checks what events do not tell, and forgets what is no longer needed. */
void tracker_tick(struct tracker *tracker);
/* Handles that a follower found other bytes than before in the generation. */
void tracker_changed(struct tracker *tracker, struct generation *generation);
void tracker_wake_followers(struct tracker *tracker, const struct follower *except);
/* Returns an open file of the generation, with a reference; NULL if there is none: errno. */
struct shared_file *tracker_open(struct tracker *tracker, struct generation *generation);
/* Returns the generation behind `generation`, or the first one; NULL if there is none that can be read yet. */
struct generation *tracker_next(struct tracker *tracker, const struct generation *generation);
/* Finds the generation and the offset of a position. Returns NULL if it is not known. */
struct generation *tracker_find(struct tracker *tracker, const struct resume *resume, off_t *offset);
/* Whether the file is one of the generations or possible copies. */
bool tracker_knows(const struct tracker *tracker, const struct identity *is);
/* Counts what was not sent, and logs it. */
void tracker_lose(struct tracker *tracker, uint64_t files, uint64_t bytes);

#endif
