#define _GNU_SOURCE
#include "following/tracking/rotated.h"

#include "following/generations/generations.h"
#include "following/tracking/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Number of generations whose first bytes are compared with those of a possible copy. */
#define RECENT 64
/* Maximum rotated files that are examined in a folder. */
#define FOUND_MAX 512

/* ---- Names ---- */

/* Whether `rest`, which follows a separator, is a number or date, as in app.log.1 or app.log-20260131. */
static bool is_number(const char *rest, size_t size) {
    if (size == 0 || rest[0] < '0' || rest[0] > '9') {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char c = rest[i];
        bool fits = (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == ':' || c == 'T' || c == 'Z' ||
                    c == '+';
        if (!fits) {
            return false;
        }
    }
    return true;
}

static bool is_separator(char c) {
    return c == '.' || c == '-' || c == '_';
}

bool rotated_name(const struct tracker *tracker, const char *name, size_t size) {
    size_t base = strlen(tracker->name);
    if (size > base + 1 && memcmp(name, tracker->name, base) == 0 && is_separator(name[base])) {
        return is_number(name + base + 1, size - base - 1);
    }
    /* app.1.log or app-20260131.log */
    const char *dot = strrchr(tracker->name, '.');
    if (dot == NULL || dot == tracker->name) {
        return false;
    }
    size_t stem = (size_t)(dot - tracker->name), extension = base - stem;
    return size > base + 1 && memcmp(name, tracker->name, stem) == 0 && is_separator(name[stem]) &&
           memcmp(name + size - extension, dot, extension) == 0 &&
           is_number(name + stem + 1, size - stem - 1 - extension);
}

/* ---- Listing ---- */

static int by_time(const void *one, const void *other) {
    const struct found *a = one, *b = other;
    if (a->is.changed != b->is.changed) {
        return a->is.changed < b->is.changed ? -1 : 1;
    }
    return strcmp(b->name, a->name);
}

/* While a file is being compressed, both forms exist. Returns the number of the other files. */
static size_t leave_out_doubled(struct found *found, size_t count) {
    for (size_t i = 0; i < count;) {
        size_t size = strlen(found[i].name) - compression_suffix(found[i].compression);
        bool doubled = false;
        for (size_t j = 0; j < count && found[i].compression != COMPRESSION_NONE && !doubled; j++) {
            doubled = strlen(found[j].name) == size && memcmp(found[j].name, found[i].name, size) == 0;
        }
        if (doubled) {
            found[i] = found[--count];
        } else {
            i++;
        }
    }
    return count;
}

size_t rotated_list(const struct tracker *tracker, struct found **list) {
    *list = NULL;
    int folder = tracker->base < 0 ? -1 : beneath_open(tracker->base, tracker->place, O_RDONLY | O_DIRECTORY);
    DIR *listing = folder < 0 ? NULL : fdopendir(folder);
    if (listing == NULL) {
        if (folder >= 0) {
            close(folder);
        }
        return 0;
    }
    struct found *found = malloc(FOUND_MAX * sizeof *found);
    size_t count = 0;
    const struct dirent *entry;
    while (found != NULL && count < FOUND_MAX && (entry = readdir(listing)) != NULL) {
        enum compression compression = compression_of(entry->d_name);
        size_t length = strlen(entry->d_name);
        if (length < NAME_SIZE && rotated_name(tracker, entry->d_name, length - compression_suffix(compression)) &&
            files_identify(tracker, entry->d_name, &found[count].is)) {
            found[count].compression = compression;
            stpcpy(found[count++].name, entry->d_name);
        }
    }
    closedir(listing);
    count = leave_out_doubled(found, count);
    if (count > 0) {
        qsort(found, count, sizeof *found, by_time);
    }
    *list = found;
    return count;
}

/* ---- Missed files ---- */

bool rotated_is_known(const struct tracker *tracker, const char *head, size_t size,
                             const struct generation *except) {
    for (size_t i = tracker->count; i > 0 && i + RECENT > tracker->count; i--) {
        if (tracker->generations[i - 1] != except && generation_has_head(tracker->generations[i - 1], head, size)) {
            return true;
        }
    }
    return false;
}

bool rotated_insert_missed(struct tracker *tracker, size_t index, const char *head, size_t head_size) {
    int64_t since = tracker->generations[index - 1]->is.changed;
    struct found *list;
    size_t count = rotated_list(tracker, &list);
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        const struct found *found = &list[i];
        if (found->is.changed < since || tracker_knows(tracker, &found->is)) {
            continue;
        }
        struct identity is;
        struct shared_file *file = files_open(tracker, found->name, &is);
        if (file == NULL) {
            continue;
        }
        char own[HEAD_SIZE];
        size_t own_size = head_read(file->file, found->compression, own);
        size_t common = own_size < head_size ? own_size : head_size;
        bool other = own_size > 0 && (common == 0 || memcmp(own, head, common) != 0) &&
                     !rotated_is_known(tracker, own, own_size, NULL);
        struct generation *missed = other ? generations_insert(tracker, index, found->name) : NULL;
        if (missed == NULL) {
            shared_release(file);
            continue;
        }
        generations_set_ended(tracker, missed, file, &is, found->name, found->compression);
        index++;
        any = true;
    }
    free(list);
    return any;
}
