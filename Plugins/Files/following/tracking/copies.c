#include "following/tracking/copies.h"

#include "following/generations/generations.h"
#include "following/tracking/files.h"
#include "following/tracking/rotated.h"

#include <stdlib.h>
#include <string.h>

/* Number of copies that remain when room is made. */
#define COPIES_KEPT 64
/* Maximum attempts to open copies that are being renamed. */
#define SETTLE_ATTEMPTS 1000

void copies_identify(struct tracker *tracker) {
    for (size_t i = 0; i < tracker->copy_count;) {
        struct generation *copy = tracker->copies[i];
        if (!copy->known && !files_identify_new(tracker, copy, true)) {
            generations_drop_copy(tracker, i);
            continue;
        }
        struct shared_file *file = copy->known && copy->head_size < HEAD_SIZE ? tracker_open(tracker, copy) : NULL;
        if (file != NULL) {
            copy->head_size = head_read(file->file, copy->compression, copy->head);
            shared_release(file);
        }
        i++;
    }
}

void copies_settle(struct tracker *tracker) {
    for (int attempt = 0; attempt < SETTLE_ATTEMPTS; attempt++) {
        watcher_drain(tracker->watcher);
        copies_identify(tracker);
        bool known = true;
        for (size_t i = 0; i < tracker->copy_count; i++) {
            /* Those that are older cannot be opened for another reason. */
            known &= tracker->copies[i]->known || tracker->copies[i]->ticks > 0;
        }
        if (known) {
            return;
        }
    }
}

void copies_limit(struct tracker *tracker) {
    while (tracker->copy_count > COPIES_KEPT) {
        generations_drop_copy(tracker, 0);
    }
}

void copies_tick(struct tracker *tracker) {
    const struct generation *last = tracker->count == 0 ? NULL : tracker->generations[tracker->count - 1];
    for (size_t i = tracker->copy_count; i > 0; i--) {
        struct generation *copy = tracker->copies[i - 1];
        /* A copy of the newest file may be followed by its truncation. Others are not needed for long. */
        if (++copy->ticks > TICKS_MAX &&
            (last == NULL || !generation_has_head(last, copy->head, copy->head_size))) {
            generations_drop_copy(tracker, i - 1);
        }
    }
}

/* ---- Truncation ---- */

/* Whether the copy has all that is known of the generation. */
static bool is_complete(struct tracker *tracker, const struct generation *generation, struct generation *copy) {
    if (!copy->known || generation->head_size == 0 || !generation_begins(generation, copy->head, copy->head_size)) {
        return false;
    }
    if (copy->compression != COMPRESSION_NONE) {
        return true; /* its length is not known */
    }
    struct shared_file *file = tracker_open(tracker, copy);
    struct identity now;
    bool complete = file != NULL && identify(file->file, &now) == 0 && now.size >= generation->size;
    shared_release(file);
    return complete;
}

/* The copy becomes the content of a generation that has ended. Takes the reference, and drops the copy. */
static void adopt(struct tracker *tracker, struct generation *generation, size_t index, struct shared_file *file) {
    const struct generation *copy = tracker->copies[index];
    generations_set_ended(tracker, generation, file, &copy->is, copy->names.own, copy->compression);
    generation->names = copy->names;
    generations_drop_copy(tracker, index);
}

/* Finds a copy that no event has announced. */
static bool adopt_listed(struct tracker *tracker, struct generation *generation) {
    struct found *list;
    size_t count = rotated_list(tracker, &list);
    bool adopted = false;
    for (size_t i = count; i > 0 && !adopted; i--) {
        const struct found *found = &list[i - 1];
        if (tracker_knows(tracker, &found->is) ||
            (found->compression == COMPRESSION_NONE && found->is.size < generation->size)) {
            continue;
        }
        struct identity is;
        struct shared_file *file = files_open(tracker, found->name, &is);
        if (file == NULL) {
            continue;
        }
        char head[HEAD_SIZE];
        size_t size = head_read(file->file, found->compression, head);
        adopted = generation->head_size > 0 && generation_begins(generation, head, size);
        if (adopted) {
            generations_set_ended(tracker, generation, file, &is, found->name, found->compression);
        } else {
            shared_release(file);
        }
    }
    free(list);
    return adopted;
}

bool copies_adopt(struct tracker *tracker, struct generation *generation) {
    for (size_t i = 0; i < tracker->copy_count; i++) {
        struct generation *copy = tracker->copies[i];
        struct shared_file *file = is_complete(tracker, generation, copy) ? tracker_open(tracker, copy) : NULL;
        if (file != NULL) {
            adopt(tracker, generation, i, file);
            return true;
        }
    }
    return adopt_listed(tracker, generation);
}

/* Returns the time before which nothing of the generation was written; 0 if it is not known. */
static int64_t earliest_write(const struct tracker *tracker, size_t index) {
    const struct generation *generation = tracker->generations[index];
    const struct generation *previous = index > 0 ? tracker->generations[index - 1] : NULL;
    if (generation->compression == COMPRESSION_NONE) {
        return generation->is.born_seconds * INT64_C(1000000000) + generation->is.born_nanoseconds;
    }
    return previous != NULL && previous->compression == COMPRESSION_NONE ? previous->is.changed : 0;
}

bool copies_insert_missed(struct tracker *tracker, size_t index, const char *head, size_t head_size) {
    struct generation *generation = tracker->generations[index];
    /* A rotated file that is unpacked again to be looked at has its old time. */
    int64_t since = earliest_write(tracker, index);
    uint64_t after = index > 0 ? tracker->generations[index - 1]->born : 0;
    uint64_t before = index + 1 < tracker->count ? tracker->generations[index + 1]->born : UINT64_MAX;
    bool any = false;
    for (size_t i = 0; i < tracker->copy_count;) {
        struct generation *copy = tracker->copies[i];
        bool same = copy->head_size == 0 || generation_has_head(copy, head, head_size);
        bool in_time = copy->born >= after && copy->born <= before && copy->is.changed >= since;
        if (!copy->known || !in_time || same ||
            rotated_is_known(tracker, copy->head, copy->head_size, NULL)) {
            i++;
            continue;
        }
        struct shared_file *file = tracker_open(tracker, copy);
        struct generation *missed = file == NULL ? NULL : generations_insert(tracker, index, copy->names.own);
        if (missed == NULL) {
            shared_release(file);
            generations_drop_copy(tracker, i);
            continue;
        }
        missed->truncated = generation->truncated;
        missed->born = copy->born;
        adopt(tracker, missed, i, file);
        /* Followers and clients at the beginning of the generation continue with what was missed. */
        missed->number = generation->number++;
        generations_move_followers(tracker, generation, missed);
        index++;
        any = true;
    }
    return any;
}

bool copies_have_other(struct tracker *tracker, const struct generation *generation, const char *head,
                       size_t head_size) {
    for (size_t i = 0; i < tracker->copy_count; i++) {
        struct generation *copy = tracker->copies[i];
        size_t common = copy->head_size < head_size ? copy->head_size : head_size;
        if (copy->born > generation->born && common > generation->head_size &&
            memcmp(copy->head, head, common) != 0 && is_complete(tracker, generation, copy) &&
            !rotated_is_known(tracker, copy->head, copy->head_size, generation)) {
            return true;
        }
    }
    return false;
}
