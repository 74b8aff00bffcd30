#define _GNU_SOURCE
#include "following/follower.h"

#include "fail.h"
#include "following/tracking/tracker.h"
#include "following/watching/watcher_state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Makes the reader begin with the follower's generation at `offset`. */
static void load(struct follower *follower, struct reader *reader, off_t offset) {
    const struct generation *at = follower->at;
    reader->known = true;
    reader->is = at->is;
    reader->offset = offset;
    reader->scanned = 0;
    reader->examined = 0;
    reader->skipping = false;
    reader->anchor.size = 0;
    reader->hole_end = at->truncated ? 0 : -1;
    content_drop(&reader->content);
    reader->content.compression = at->compression;
}

static void close_reader(struct follower *follower, struct reader *reader) {
    reader->content.file = -1;
    shared_release(follower->file);
    follower->file = NULL;
}

chanserv_status follower_begin(struct watcher *watcher, struct follower *follower, struct root *root, const char *path,
                               const struct resume *resume, struct reader *reader, chanserv_error *error) {
    pthread_mutex_lock(&watcher->lock);
    watcher_process(watcher, NULL);
    struct tracker *tracker = watcher_tracker(watcher, root, path);
    if (tracker == NULL) {
        pthread_mutex_unlock(&watcher->lock);
        return fail(error, CHANSERV_ERROR_BUSY, "%s: no memory to follow it", path);
    }
    tracker_update(tracker);
    tracker_wake_followers(tracker, NULL);
    off_t offset = 0;
    struct generation *at = NULL;
    chanserv_status status = CHANSERV_READY;
    if (resume != NULL) {
        at = tracker_find(tracker, resume, &offset);
        bool first = resume->stream == tracker->stream && resume->number == tracker->next_number && resume->offset == 0;
        if (at == NULL && !first) {
            status = fail(error, CHANSERV_ERROR_NOT_FOUND,
                          "%s: cannot resume: the file with inode %" PRIu64
                          " is gone, or the position is behind its end; request the file without a position",
                          path, resume->inode);
        }
    } else {
        for (size_t i = 0; i < tracker->count; i++) {
            at = tracker->generations[i]->known ? tracker->generations[i] : at;
        }
    }
    if (status == CHANSERV_READY) {
        follower->tracker = tracker;
        follower->at = at;
        follower->previous = NULL;
        follower->next = tracker->followers;
        if (follower->next != NULL) {
            follower->next->previous = follower;
        }
        tracker->followers = follower;
        reader->followed = true;
        if (at != NULL) {
            load(follower, reader, offset);
        } else {
            status = CHANSERV_PENDING;
        }
    } else if (tracker->followers == NULL) {
        tracker->idle_since = monotonic_now();
    }
    pthread_mutex_unlock(&watcher->lock);
    return status;
}

void follower_end(struct watcher *watcher, struct follower *follower) {
    struct tracker *tracker = follower->tracker;
    if (tracker == NULL) {
        return;
    }
    pthread_mutex_lock(&watcher->lock);
    *(follower->previous != NULL ? &follower->previous->next : &tracker->followers) = follower->next;
    if (follower->next != NULL) {
        follower->next->previous = follower->previous;
    }
    shared_release(follower->file);
    if (tracker->followers == NULL) {
        tracker->idle_since = monotonic_now();
        if (watcher->limits.window == 0) {
            watcher_remove_tracker(watcher, tracker);
        }
    }
    follower->tracker = NULL;
    pthread_mutex_unlock(&watcher->lock);
}

/* Puts the follower at the generation that it reads. Returns false if there is none. */
static bool take_generation(struct follower *follower, struct reader *reader) {
    if (follower->at == NULL) {
        follower->at = tracker_next(follower->tracker, NULL);
        if (follower->at == NULL) {
            return false;
        }
        load(follower, reader, 0);
    }
    if (follower->moved) {
        follower->moved = false;
        close_reader(follower, reader);
        load(follower, reader, 0);
    }
    if (follower->file != NULL && follower->version != follower->at->version) {
        close_reader(follower, reader); /* its rest is in a copy now */
    }
    return true;
}

/* Opens the follower's generation for its reader, up to `limit`. Returns false and errno. */
static bool open_generation(struct follower *follower, struct reader *reader, off_t limit) {
    struct generation *at = follower->at;
    if (follower->file == NULL) {
        follower->file = tracker_open(follower->tracker, at);
        follower->version = at->version;
    }
    if (follower->file == NULL) {
        return false;
    }
    reader->content.file = follower->file->file;
    if (reader->content.compression != at->compression) {
        content_drop(&reader->content);
        reader->content.compression = at->compression;
    }
    reader->limit = limit;
    reader->head_size = at->head_size;
    memcpy(reader->head, at->head, at->head_size);
    return true;
}

/* Finds what the follower can read. Called with the lock held. */
static enum next_result next(struct follower *follower, struct reader *reader) {
    struct tracker *tracker = follower->tracker;
    for (;;) {
        if (!take_generation(follower, reader)) {
            errno = tracker->denied;
            return tracker->denied != 0 ? NEXT_DENIED : NEXT_WAIT;
        }
        struct generation *at = follower->at;
        bool unknown = at->sealed && at->end < 0;
        off_t limit = unknown ? INT64_MAX : at->sealed ? at->end : at->size;
        off_t end = reader->scanned > reader->offset ? reader->scanned : reader->offset;
        end = reader->examined > end ? reader->examined : end;
        bool more = end < limit || (at->sealed && reader->offset < limit);
        if (more && !at->lost) {
            if (open_generation(follower, reader, limit)) {
                return at->sealed && end >= limit ? NEXT_WHOLE : NEXT_DATA;
            }
            if (errno != ENOENT && errno != ESTALE && errno != ENOTDIR && errno != ELOOP) {
                tracker->retry = true; /* for example too many open files */
                return NEXT_WAIT;
            }
            /* While it has not ended, its name may refer to it again. */
            at->lost = at->sealed;
        }
        struct generation *following = at->sealed ? tracker_next(tracker, at) : NULL;
        if (following == NULL) {
            return NEXT_WAIT;
        }
        if (more) {
            tracker_lose(tracker, reader->offset == 0 ? 1 : 0, unknown ? 0 : (uint64_t)(limit - reader->offset));
        }
        close_reader(follower, reader);
        off_t rest = reader->offset > limit ? reader->offset - limit : 0;
        follower->at = following;
        load(follower, reader, rest);
    }
}

/* The reader has found other bytes than before. Called with the lock held. */
static void handle_change(struct follower *follower, struct reader *reader) {
    struct tracker *tracker = follower->tracker;
    struct generation *at = follower->at;
    if (at == NULL || follower->version != at->version || follower->moved) {
        return; /* its rest is in a copy since this poll began */
    }
    if (!at->sealed || at->lost) {
        tracker_changed(tracker, at);
        close_reader(follower, reader);
        return;
    }
    /* The copy is not what was read before. */
    close_reader(follower, reader);
    at->end = at->end < 0 ? reader->offset : at->end; /* of a compressed one the rest is not known */
    tracker_lose(tracker, 0, at->end > reader->offset ? (uint64_t)(at->end - reader->offset) : 0);
    reader->offset = reader->scanned = at->end;
    reader->anchor.size = 0;
}

enum next_result follower_next(struct watcher *watcher, struct follower *follower, struct reader *reader, bool changed,
                              uint64_t wake) {
    pthread_mutex_lock(&watcher->lock);
    watcher_process(watcher, follower);
    struct tracker *tracker = follower->tracker;
    uint64_t before = watcher->events;
    if (changed) {
        handle_change(follower, reader);
    }
    tracker_update(tracker);
    if (watcher->events != before) {
        tracker_wake_followers(tracker, follower);
    }
    enum next_result result = next(follower, reader);
    if (result == NEXT_WAIT) {
        follower->waiting = true;
        follower->wake = wake;
    }
    pthread_mutex_unlock(&watcher->lock);
    return result;
}

void follower_reached_end(struct watcher *watcher, struct follower *follower, struct reader *reader) {
    pthread_mutex_lock(&watcher->lock);
    struct generation *at = follower->at;
    if (!follower->moved && follower->version == at->version && at->end < 0) {
        at->end = content_length(&reader->content);
    }
    pthread_mutex_unlock(&watcher->lock);
}

void follower_rest(struct watcher *watcher, struct follower *follower, struct reader *reader) {
    pthread_mutex_lock(&watcher->lock);
    close_reader(follower, reader);
    pthread_mutex_unlock(&watcher->lock);
}

void follower_disarm(struct watcher *watcher, struct follower *follower) {
    pthread_mutex_lock(&watcher->lock);
    follower->waiting = false;
    pthread_mutex_unlock(&watcher->lock);
}

void follower_skipped(struct watcher *watcher, struct follower *follower, off_t from, off_t size, const char *reason) {
    pthread_mutex_lock(&watcher->lock);
    if (!follower->moved && generation_skip(follower->at, &from, size)) {
        log_line(watcher->host, CHANSERV_LOG_WARNING, "%s: skipped %jd bytes at byte %jd: %s", follower->tracker->path,
                 (intmax_t)size, (intmax_t)from, reason);
    }
    pthread_mutex_unlock(&watcher->lock);
}

struct resume follower_position(struct watcher *watcher, const struct follower *follower, off_t offset) {
    pthread_mutex_lock(&watcher->lock);
    struct resume position = {.stream = follower->tracker->stream, .number = follower->tracker->next_number};
    if (follower->at != NULL) {
        position.inode = follower->at->is.inode;
        position.number = follower->at->number;
        /* Clients count the bytes that they have received. */
        position.offset = generation_position(follower->at, offset);
    }
    pthread_mutex_unlock(&watcher->lock);
    return position;
}
