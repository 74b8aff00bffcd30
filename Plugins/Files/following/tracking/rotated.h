/* Rotated files, found by their names in the tracker's folder. */
#ifndef FILES_ROTATED_H
#define FILES_ROTATED_H

#include "following/tracking/tracker.h"

struct found {
    struct identity is;
    char name[NAME_SIZE];
    enum compression compression;
};

/* Whether `name`, of `size` bytes, is what log rotations call a rotated file of the tracker's file. */
bool rotated_name(const struct tracker *tracker, const char *name, size_t size);
/*
 * Lists the rotated files in the folder, oldest last write first. Where a file and its compressed form exist, lists the
 * file. The caller frees the list.
 */
size_t rotated_list(const struct tracker *tracker, struct found **list);
/* Whether a recent generation other than `except` has these first bytes. */
bool rotated_is_known(const struct tracker *tracker, const char *head, size_t size, const struct generation *except);
/*
 * Finds rotated files behind the generation `index` - 1 that were missed, because there were no reports, and inserts
 * them before `index`, whose content begins with `head`. Returns whether there were any.
 */
bool rotated_insert_missed(struct tracker *tracker, size_t index, const char *head, size_t head_size);

#endif
