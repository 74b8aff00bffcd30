/* The generations of one followed path. All functions are called with the watcher's lock held. */
#ifndef FILES_TRACKER_H
#define FILES_TRACKER_H

#include "follow.h"

/* A file that is open, shared by the tracker and the sources that read it. */
struct shared_file {
    atomic_size_t references;
    int file;
};

#define SKIPS_MAX 16
#define COPIES_MAX 128
#define COPIES_KEPT 64
#define NAME_SIZE 256
/* Maximum generations of a tracker. */
#define GENERATIONS_MAX 4096
/* Maximum generations that are kept although no follower needs them. */
#define HISTORY_MAX 256
/* Maximum ended generations whose length is remembered. */
#define LENGTHS_MAX 65536

struct generation {
    uint64_t number;
    uint64_t born; /* order of the event that created it */
    struct shared_file *file; /* NULL if it is not kept open */
    struct watch watch;       /* for writes, until it is sealed */
    bool known;               /* it was opened, so `is` is valid */
    struct identity is;
    char name[NAME_SIZE], last_name[NAME_SIZE]; /* in the folder, as far as events tell; "" if it has none */
    char packed[NAME_SIZE]; /* the name of its compressed form; "" if there is none */
    uint32_t cookie, packed_cookie; /* of the renames that are under way; 0: none */
    enum compression compression;
    unsigned version; /* changes when its content is in another file */
    bool sealed;    /* it has ended; `end` is valid */
    bool lost;      /* its content is gone */
    bool truncated; /* it began with a truncation */
    off_t size;     /* known size */
    off_t end;      /* -1 for a compressed file whose length is not known */
    int64_t sealed_at, ticks;
    size_t head_size;
    char head[HEAD_SIZE];
    size_t skips;
    struct { off_t from, size; } skip[SKIPS_MAX];
};

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

#define BUCKETS 1024

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

/* ---- follow.c ---- */

int64_t monotonic_now(void);
void watch_add(struct watcher *watcher, struct watch *watch, int file);
void watch_remove(struct watcher *watcher, struct watch *watch);
/* Processes all reports of the kernel. Returns whether there were any. */
bool watcher_drain(struct watcher *watcher);
void tracker_mark(struct tracker *tracker);

/* ---- tracker.c ---- */

struct tracker *tracker_new(struct watcher *watcher, struct root *root, const char *path);
void tracker_free(struct tracker *tracker);
/* Handles a report about a name in the tracker's folder. */
void tracker_event(struct tracker *tracker, uint32_t mask, uint32_t cookie, const char *name);
/* Brings the generations up to date. */
void tracker_update(struct tracker *tracker);
/* Checks what events do not tell, and forgets what is no longer needed. */
void tracker_tick(struct tracker *tracker);
/* Handles that a follower found other bytes than before in the generation. */
void tracker_changed(struct tracker *tracker, struct generation *generation);
/* Returns an open file of the generation, with a reference; NULL if there is none: errno. */
struct shared_file *tracker_open(struct tracker *tracker, struct generation *generation);
void shared_release(struct shared_file *file);
/* Returns the generation behind `generation`, or the first one; NULL if there is none that can be read yet. */
struct generation *tracker_next(struct tracker *tracker, const struct generation *generation);
/* Finds the generation and the offset of a position. Returns NULL if it is not known. */
struct generation *tracker_find(struct tracker *tracker, const struct resume *resume, off_t *offset);
/* Counts what was not sent, and logs it. */
void tracker_lose(struct tracker *tracker, uint64_t files, uint64_t bytes);

#endif
