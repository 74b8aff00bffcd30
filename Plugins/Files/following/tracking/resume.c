/* Positions of clients: which generation has the next byte. */
#include "following/generations/generations.h"
#include "following/tracking/files.h"
#include "following/tracking/rotated.h"

#include <stdlib.h>

/* Goes on from the generation at `index`. */
static struct generation *walk_on(struct tracker *tracker, size_t index, off_t position, off_t *offset) {
    for (; index < tracker->count && tracker->generations[index]->known; index++) {
        struct generation *generation = tracker->generations[index];
        off_t at = generation_offset(generation, position);
        if (generation->sealed && generation->end < 0) {
            *offset = at; /* its length is found when it is read */
            return generation;
        }
        if (!generation->sealed || at < generation->end || (at == generation->end && index + 1 == tracker->count)) {
            *offset = at;
            return generation->sealed || at <= generation->size ? generation : NULL;
        }
        position -= generation_delivered(generation);
    }
    return NULL;
}

/* Finds a file by its inode in the folder, and the ones that were rotated after it, and puts them into the list. */
static bool find_on_disk(struct tracker *tracker, uint64_t inode) {
    struct found *list;
    size_t count = rotated_list(tracker, &list), first = count;
    for (size_t i = 0; i < count; i++) {
        if (list[i].is.inode == inode && list[i].compression == COMPRESSION_NONE) {
            first = i;
        }
    }
    size_t index = 0;
    for (size_t i = first; i < count; i++) {
        const struct found *found = &list[i];
        struct identity is;
        struct shared_file *file = tracker_knows(tracker, &found->is) ? NULL : files_open(tracker, found->name, &is);
        struct generation *old = file == NULL ? NULL : generations_insert(tracker, index, found->name);
        if (old == NULL) {
            shared_release(file);
            continue;
        }
        generations_set_ended(tracker, old, file, &is, found->name, found->compression);
        tracker->length_count = 0;
        index++;
    }
    free(list);
    return index > 0;
}

/* Finds a position by the number of its generation. */
static struct generation *find_by_number(struct tracker *tracker, const struct resume *resume, off_t *offset) {
    off_t position = resume->offset;
    size_t i = 0;
    while (i < tracker->length_count && tracker->lengths[i].number != resume->number) {
        i++;
    }
    bool past = i < tracker->length_count;
    for (; i < tracker->length_count; i++) {
        if (position < tracker->lengths[i].length) {
            return NULL; /* forgotten */
        }
        position -= tracker->lengths[i].length;
    }
    for (size_t j = 0; j < tracker->count; j++) {
        if (past || tracker->generations[j]->number == resume->number) {
            return walk_on(tracker, j, position, offset);
        }
    }
    return NULL;
}

/*
 * Finds a position by the inode of its file. An inode may have had several contents. The newest one that is long enough
 * is the most probable one.
 */
static struct generation *find_by_inode(struct tracker *tracker, const struct resume *resume, off_t *offset) {
    for (size_t i = tracker->count; i > 0; i--) {
        const struct generation *generation = tracker->generations[i - 1];
        struct generation *at = generation->known && generation->is.inode == resume->inode
                                    ? walk_on(tracker, i - 1, resume->offset, offset)
                                    : NULL;
        if (at != NULL) {
            return at;
        }
    }
    return NULL;
}

struct generation *tracker_find(struct tracker *tracker, const struct resume *resume, off_t *offset) {
    if (resume->stream == tracker->stream) {
        return find_by_number(tracker, resume, offset);
    }
    struct generation *at = find_by_inode(tracker, resume, offset);
    return at == NULL && find_on_disk(tracker, resume->inode) ? find_by_inode(tracker, resume, offset) : at;
}
