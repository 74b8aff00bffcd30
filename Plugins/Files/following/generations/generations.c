#define _GNU_SOURCE
#include "following/generations/generations.h"

#include "fail.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Distance of the numbers of two generations, so that others can be inserted. */
#define NUMBER_STEP (UINT64_C(1) << 16)
/* Minimum time between two log lines about lost data, in nanoseconds. */
#define TELL_INTERVAL INT64_C(1000000000)

size_t tracker_members(const struct tracker *tracker) {
    return tracker->count + tracker->copy_count;
}

struct generation *tracker_member(const struct tracker *tracker, size_t index) {
    return index < tracker->count ? tracker->generations[tracker->count - 1 - index]
                                  : tracker->copies[tracker_members(tracker) - 1 - index];
}

bool tracker_knows(const struct tracker *tracker, const struct identity *is) {
    for (size_t i = 0; i < tracker_members(tracker); i++) {
        if (tracker_member(tracker, i)->known && is_same_file(&tracker_member(tracker, i)->is, is)) {
            return true;
        }
    }
    return false;
}

/* ---- Open files ---- */

static void unkeep(struct tracker *tracker, struct generation *generation) {
    if (generation->file != NULL) {
        atomic_fetch_sub(tracker->watcher->limits.open, 1);
        shared_release(generation->file);
        generation->file = NULL;
    }
}

/* The index of the first generation that a follower needs. */
static size_t first_needed(const struct tracker *tracker) {
    size_t first = tracker->count;
    for (const struct follower *follower = tracker->followers; follower != NULL; follower = follower->next) {
        for (size_t i = 0; i < first; i++) {
            if (tracker->generations[i] == follower->at) {
                first = i;
            }
        }
    }
    return first;
}

void generations_keep_open(struct tracker *tracker, struct generation *generation, struct shared_file *file) {
    atomic_size_t *open = tracker->watcher->limits.open;
    size_t limit = tracker->watcher->limits.open_files;
    unkeep(tracker, generation);
    if (atomic_load(open) >= limit) {
        size_t needed = first_needed(tracker);
        for (size_t i = 0; i < needed && atomic_load(open) >= limit; i++) {
            if (tracker->generations[i]->sealed) {
                unkeep(tracker, tracker->generations[i]);
            }
        }
    }
    if (atomic_fetch_add(open, 1) < limit) {
        generation->file = file;
    } else {
        atomic_fetch_sub(open, 1);
        shared_release(file);
    }
}

void generations_set_ended(struct tracker *tracker, struct generation *generation, struct shared_file *file,
                           const struct identity *is, const char *name, enum compression compression) {
    generation->known = true;
    generation->lost = false;
    generation->version++;
    generation->is = *is;
    generation->compression = compression;
    if (compression == COMPRESSION_NONE) {
        struct identity now;
        generation->size = identify(file->file, &now) == 0 ? now.size : is->size;
    }
    generations_seal(tracker, generation);
    generation->end = compression == COMPRESSION_NONE ? generation->size : -1;
    stpcpy(generation->names.own, name);
    if (generation->head_size < HEAD_SIZE) {
        generation->head_size = head_read(file->file, compression, generation->head);
    }
    generations_keep_open(tracker, generation, file);
}

void generations_seal(struct tracker *tracker, struct generation *generation) {
    generation->sealed = true;
    generation->end = generation->size;
    generation->sealed_at = monotonic_now();
    watch_remove(tracker->watcher, &generation->watch);
    tracker->watcher->events++;
}

void generations_move_followers(struct tracker *tracker, const struct generation *from, struct generation *to) {
    for (struct follower *follower = tracker->followers; follower != NULL; follower = follower->next) {
        if (follower->at == from) {
            follower->at = to;
            follower->moved = true;
        }
    }
}

/* ---- The list ---- */

struct generation *generations_new(struct tracker *tracker, const char *name) {
    struct generation *generation = calloc(1, sizeof *generation);
    if (generation != NULL) {
        generation->watch = (struct watch){.number = -1, .tracker = tracker};
        generation->born = ++tracker->watcher->events;
        stpcpy(generation->names.own, name);
    }
    return generation;
}

static void free_generation(struct tracker *tracker, struct generation *generation) {
    watch_remove(tracker->watcher, &generation->watch);
    unkeep(tracker, generation);
    free(generation);
}

/* Makes room for one more generation. */
static bool grow(struct tracker *tracker) {
    if (tracker->count < tracker->capacity) {
        return true;
    }
    size_t capacity = tracker->capacity == 0 ? 4 : tracker->capacity * 2;
    struct generation **grown = reallocarray(tracker->generations, capacity, sizeof *grown);
    if (grown != NULL) {
        tracker->generations = grown;
        tracker->capacity = capacity;
    }
    return grown != NULL;
}

struct generation *generations_insert(struct tracker *tracker, size_t index, const char *name) {
    struct generation *generation = grow(tracker) ? generations_new(tracker, name) : NULL;
    if (generation == NULL) {
        tracker_lose(tracker, 1, 0);
        return NULL;
    }
    memmove(tracker->generations + index + 1, tracker->generations + index,
            (tracker->count - index) * sizeof *tracker->generations);
    tracker->generations[index] = generation;
    if (index == tracker->count) {
        generation->number = tracker->next_number;
        tracker->next_number += NUMBER_STEP;
    } else if (index > 0) {
        generation->number = tracker->generations[index - 1]->number + 1;
    } else {
        generation->number = tracker->generations[1]->number - NUMBER_STEP;
    }
    tracker->count++;
    return generation;
}

void generations_drop(struct tracker *tracker, size_t index) {
    free_generation(tracker, tracker->generations[index]);
    tracker->count--;
    memmove(tracker->generations + index, tracker->generations + index + 1,
            (tracker->count - index) * sizeof *tracker->generations);
    tracker->watcher->events++;
}

void generations_drop_copy(struct tracker *tracker, size_t index) {
    free_generation(tracker, tracker->copies[index]);
    tracker->copy_count--;
    memmove(tracker->copies + index, tracker->copies + index + 1,
            (tracker->copy_count - index) * sizeof *tracker->copies);
}

struct generation *tracker_next(struct tracker *tracker, const struct generation *generation) {
    size_t index = 0;
    while (generation != NULL && index < tracker->count && tracker->generations[index++] != generation) {
    }
    return index < tracker->count && tracker->generations[index]->known ? tracker->generations[index] : NULL;
}

/* ---- Forgetting ---- */

void tracker_lose(struct tracker *tracker, uint64_t files, uint64_t bytes) {
    tracker->lost_files += files;
    tracker->lost_bytes += bytes;
    int64_t now = monotonic_now();
    if ((tracker->lost_files == tracker->told_files && tracker->lost_bytes == tracker->told_bytes) ||
        (tracker->told_at != 0 && now - tracker->told_at < TELL_INTERVAL)) {
        return;
    }
    log_line(tracker->watcher->host, CHANSERV_LOG_WARNING,
             "%s: data was rotated away before it was read, or written to a rotated file: %" PRIu64
             " files and %" PRIu64 " bytes of others are missing; %" PRIu64 " files and %" PRIu64 " bytes in total",
             tracker->path, tracker->lost_files - tracker->told_files, tracker->lost_bytes - tracker->told_bytes,
             tracker->lost_files, tracker->lost_bytes);
    tracker->told_files = tracker->lost_files;
    tracker->told_bytes = tracker->lost_bytes;
    tracker->told_at = now;
}

/* Remembers the length of the first generation, and takes it out of the list. */
static void forget_first(struct tracker *tracker) {
    const struct generation *first = tracker->generations[0];
    if (tracker->length_count == LENGTHS_MAX) {
        size_t half = LENGTHS_MAX / 2;
        tracker->length_count -= half;
        memmove(tracker->lengths, tracker->lengths + half, tracker->length_count * sizeof *tracker->lengths);
    }
    if (tracker->length_count == tracker->length_capacity) {
        size_t capacity = tracker->length_capacity == 0 ? 64 : tracker->length_capacity * 2;
        struct past *grown = reallocarray(tracker->lengths, capacity, sizeof *grown);
        if (grown != NULL) {
            tracker->lengths = grown;
            tracker->length_capacity = capacity;
        }
    }
    if (tracker->length_count < tracker->length_capacity) {
        tracker->lengths[tracker->length_count++] = (struct past){first->number, generation_delivered(first)};
    } else {
        tracker->length_count = 0; /* with a gap, positions before it would be found in the wrong place */
    }
    generations_drop(tracker, 0);
}

/* Gives up the oldest generations that a slow follower needs when there are too many. */
static void limit_generations(struct tracker *tracker) {
    while (tracker->count > GENERATIONS_MAX && first_needed(tracker) == 0 && tracker->generations[0]->sealed) {
        generations_move_followers(tracker, tracker->generations[0], tracker->generations[1]);
        tracker_lose(tracker, 1, 0);
        forget_first(tracker);
    }
}

/* Closes most files that no follower needs: other followed files need descriptors too. */
static void limit_open(struct tracker *tracker, size_t needed) {
    size_t kept = 0;
    for (size_t i = needed; i > 0; i--) {
        struct generation *generation = tracker->generations[i - 1];
        if (generation->sealed && generation->file != NULL && ++kept > tracker->watcher->limits.open_files / 2) {
            unkeep(tracker, generation);
        }
    }
}

void generations_forget(struct tracker *tracker) {
    limit_generations(tracker);
    size_t needed = first_needed(tracker);
    limit_open(tracker, needed);
    int64_t now = monotonic_now();
    for (; needed > 0 && tracker->count > 1; needed--) {
        const struct generation *first = tracker->generations[0];
        bool old = now - first->sealed_at >= tracker->watcher->limits.window || needed > HISTORY_MAX;
        if (!first->sealed || !old) {
            break;
        }
        struct identity last;
        if (first->file != NULL && first->compression == COMPRESSION_NONE &&
            identify(first->file->file, &last) == 0 && last.size > first->end) {
            /* A process has written to the old file although the new one had data. */
            tracker_lose(tracker, 0, (uint64_t)(last.size - first->end));
        }
        forget_first(tracker);
    }
}
