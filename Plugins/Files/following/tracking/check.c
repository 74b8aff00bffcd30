#include "following/tracking/check.h"

#include "fail.h"
#include "following/generations/generations.h"
#include "following/tracking/copies.h"
#include "following/tracking/files.h"

#include <string.h>

/* Ends the generation at `index`, whose file was truncated, and begins the next one with the same file. */
static void handle_truncation(struct tracker *tracker, size_t index) {
    struct generation *old = tracker->generations[index];
    struct generation *following = generations_insert(tracker, index + 1, old->names.own);
    if (following == NULL) {
        return; /* the next check finds it again */
    }
    following->known = following->truncated = true;
    following->born = old->born;
    following->is = old->is;
    following->names = old->names;
    following->file = old->file;
    old->names = (struct file_names){0};
    old->file = NULL;
    struct identity is;
    struct shared_file *file = following->file != NULL ? shared_keep(following->file)
                                                       : files_open(tracker, following->names.own, &is);
    if (file != NULL) {
        watch_add(tracker->watcher, &following->watch, file->file);
    }
    shared_release(file);
    copies_settle(tracker);
    if (!copies_adopt(tracker, old)) {
        old->lost = true;
        generations_seal(tracker, old);
    }
    log_line(tracker->watcher->host, CHANSERV_LOG_DEBUG, "%s: was truncated; starting over", tracker->path);
}

/* The first bytes of a file, read twice, and its size between the two reads. */
struct observation {
    char head[HEAD_SIZE], again[HEAD_SIZE];
    size_t head_size, again_size;
    struct identity is;
};

/* A size must not be used without the first bytes of the same content. Returns false if that cannot be had now. */
static bool observe(struct tracker *tracker, struct generation *generation, struct observation *seen) {
    struct shared_file *file = tracker_open(tracker, generation);
    bool complete = false;
    for (int attempt = 0; file != NULL && !complete && attempt < 10; attempt++) {
        seen->head_size = head_read(file->file, COMPRESSION_NONE, seen->head);
        if (identify(file->file, &seen->is) != 0) {
            break;
        }
        seen->again_size = head_read(file->file, COMPRESSION_NONE, seen->again);
        complete = (off_t)seen->head_size >= seen->is.size || seen->head_size == HEAD_SIZE;
    }
    shared_release(file);
    return complete;
}

bool check_generation(struct tracker *tracker, size_t index) {
    struct generation *generation = tracker->generations[index];
    struct observation seen;
    if (!observe(tracker, generation, &seen)) {
        return false;
    }
    bool same = generation_begins(generation, seen.head, seen.head_size) && seen.again_size >= seen.head_size &&
                memcmp(seen.head, seen.again, seen.head_size) == 0;
    if (seen.is.size < generation->size || (!same && generation->head_size > 0)) {
        handle_truncation(tracker, index);
        return true;
    }
    if (!same) {
        tracker_mark(tracker); /* it was truncated meanwhile */
        return false;
    }
    if (seen.head_size > generation->head_size) {
        /* A copy that was made before these bytes were written has been reported by now. */
        uint64_t arrivals = tracker->arrivals;
        copies_settle(tracker);
        if (tracker->arrivals != arrivals ||
            (generation->size == 0 && copies_insert_missed(tracker, index, seen.head, seen.head_size))) {
            return true;
        }
        if (generation->size > 0 && copies_have_other(tracker, generation, seen.head, seen.head_size)) {
            handle_truncation(tracker, index);
            return true;
        }
    }
    if (seen.is.size != generation->size) {
        tracker->watcher->events++;
    }
    generation->size = seen.is.size;
    generation->is.changed = seen.is.changed;
    generation->head_size = (off_t)seen.head_size > seen.is.size ? (size_t)seen.is.size : seen.head_size;
    memcpy(generation->head, seen.head, generation->head_size);
    return false;
}

void tracker_changed(struct tracker *tracker, struct generation *generation) {
    for (size_t i = 0; i < tracker->count; i++) {
        if (tracker->generations[i] == generation && generation->known && !generation->sealed) {
            /* The first bytes may be equal. The follower has found that others are not. */
            if (!check_generation(tracker, i) && !generation->sealed) {
                handle_truncation(tracker, i);
            }
            return;
        }
    }
}
