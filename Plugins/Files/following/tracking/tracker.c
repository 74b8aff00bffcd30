#define _GNU_SOURCE
#include "following/tracking/tracker.h"

#include "following/generations/generations.h"
#include "following/tracking/check.h"
#include "following/tracking/copies.h"
#include "following/tracking/files.h"
#include "following/tracking/rotated.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* ---- Passes over the list ---- */

/*
 * Opens the generations that events have announced. Returns false if the list has changed, so that another pass is
 * needed.
 */
static bool identify_all(struct tracker *tracker) {
    for (size_t i = 0; i < tracker->count; i++) {
        struct generation *generation = tracker->generations[i];
        if (generation->known) {
            continue;
        }
        bool last = i + 1 == tracker->count;
        if (!files_identify_new(tracker, generation, false)) {
            generations_drop(tracker, i);
            return false;
        }
        if (generation->known && tracker->scans && last && i > 0) {
            tracker->scans = false;
            char head[HEAD_SIZE];
            size_t size = generation->file == NULL ? 0 : head_read(generation->file->file, COMPRESSION_NONE, head);
            if (rotated_insert_missed(tracker, i, head, size)) {
                return false;
            }
        }
    }
    return true;
}

/* Finds what the generation had before it was truncated. Returns whether there was something. */
static bool insert_missed(struct tracker *tracker, size_t index) {
    const struct generation *generation = tracker->generations[index];
    copies_settle(tracker);
    return copies_insert_missed(tracker, index, generation->head, generation->head_size);
}

/* One pass over the list. Returns false if it has changed. */
static bool update(struct tracker *tracker) {
    tracker->denied = 0;
    copies_limit(tracker);
    copies_identify(tracker);
    if (!identify_all(tracker)) {
        return false;
    }
    size_t filled = 0;
    for (size_t i = 0; i < tracker->count; i++) {
        struct generation *generation = tracker->generations[i];
        if (generation->known && !generation->sealed && check_generation(tracker, i)) {
            return false;
        }
        if (generation->unseen) {
            /* Not before the earlier generations were checked: their copies come first. */
            generation->unseen = false;
            if (insert_missed(tracker, i)) {
                return false;
            }
        }
        filled = generation->known && (generation->sealed || generation->size > 0) ? i : filled;
    }
    /*
     * A process that rotates a log writes to the old file until it uses the new one. So the old one has ended when the
     * new one has data. Its size is read again, because it may have grown before that.
     */
    for (size_t i = 0; i < filled; i++) {
        struct generation *generation = tracker->generations[i];
        if (generation->known && !generation->sealed) {
            if (check_generation(tracker, i)) {
                return false;
            }
            /* It may be empty because it was truncated. */
            if (generation->size == 0 && insert_missed(tracker, i)) {
                return false;
            }
            generations_seal(tracker, generation);
        }
    }
    return true;
}

void tracker_update(struct tracker *tracker) {
    for (int pass = 0; pass < 10000; pass++) {
        if (update(tracker)) {
            break;
        }
    }
    if (tracker->count > HISTORY_MAX) {
        generations_forget(tracker);
    }
}

/* ---- Checks in every interval ---- */

/* Finds the folder again: a folder on the path, or a link, may have been replaced. */
static void locate(struct tracker *tracker) {
    char place[PATH_MAX];
    int base = root_locate(tracker->root, tracker->path, place);
    if (base < 0) {
        return;
    }
    char *slash = strrchr(place, '/');
    const char *name = slash == NULL ? place : slash + 1;
    if (slash != NULL) {
        *slash = '\0';
    }
    if (strlen(name) >= NAME_SIZE) {
        return;
    }
    const char *parent = slash == NULL ? "" : place;
    int folder = beneath_open(base, parent, O_RDONLY | O_DIRECTORY);
    if (folder < 0 && (errno == EACCES || errno == EPERM)) {
        folder = beneath_open(base, parent, O_PATH | O_DIRECTORY);
    }
    struct identity is;
    bool found = folder >= 0 && identify(folder, &is) == 0;
    bool same = found && tracker->base >= 0 && is_same_file(&is, &tracker->folder_is) &&
                strcmp(name, tracker->name) == 0;
    char *copy = !found || same ? NULL : strdup(parent);
    if (copy != NULL) {
        for (size_t i = 0; i < tracker->count; i++) {
            tracker->generations[i]->names = (struct file_names){0};
        }
        free(tracker->place);
        tracker->base = base;
        tracker->place = copy;
        tracker->folder_is = is;
        stpcpy(tracker->name, name);
        watch_add(tracker->watcher, &tracker->folder_watch, folder);
    }
    if (folder >= 0) {
        close(folder);
    }
}

/* Whether the file that has the name now is in the list, or an event has announced it. */
static bool is_expected(const struct tracker *tracker) {
    struct identity is;
    if (!files_identify(tracker, tracker->name, &is) || tracker_knows(tracker, &is)) {
        return true;
    }
    for (size_t i = 0; i < tracker->count; i++) {
        if (!tracker->generations[i]->known && strcmp(tracker->generations[i]->names.own, tracker->name) == 0) {
            return true;
        }
    }
    return false;
}

void tracker_tick(struct tracker *tracker) {
    locate(tracker);
    for (int attempt = 0; attempt < 5 && !is_expected(tracker); attempt++) {
        /*
         * Reports of this file and of earlier ones may be waiting. They must come first, because they determine the
         * order.
         */
        size_t count = tracker->count;
        bool dirty = tracker->dirty;
        watcher_drain(tracker->watcher);
        if (tracker->count != count || tracker->dirty != dirty) {
            continue;
        }
        tracker->scans |= generations_insert(tracker, tracker->count, tracker->name) != NULL;
        break;
    }
    for (size_t i = 0; i < tracker->count; i++) {
        tracker->generations[i]->ticks += !tracker->generations[i]->known;
    }
    copies_tick(tracker);
    tracker_update(tracker);
    generations_forget(tracker);
    tracker_lose(tracker, 0, 0);
}

/* ---- Start and end ---- */

struct tracker *tracker_new(struct watcher *watcher, struct root *root, const char *path) {
    struct tracker *tracker = calloc(1, sizeof *tracker);
    char *copy = strdup(path);
    if (tracker == NULL || copy == NULL) {
        free(tracker);
        free(copy);
        return NULL;
    }
    tracker->watcher = watcher;
    tracker->root = root_keep(root);
    tracker->path = copy;
    tracker->base = -1;
    tracker->folder_watch = (struct watch){.number = -1, .tracker = tracker, .folder = true};
    tracker->next_number = UINT64_C(1) << 32;
    while (tracker->stream == 0) {
        if (getrandom(&tracker->stream, sizeof tracker->stream, 0) != sizeof tracker->stream) {
            tracker->stream = (uint64_t)(uintptr_t)tracker ^ (uint64_t)monotonic_now();
        }
    }
    return tracker;
}

void tracker_free(struct tracker *tracker) {
    while (tracker->count > 0) {
        generations_drop(tracker, tracker->count - 1);
    }
    while (tracker->copy_count > 0) {
        generations_drop_copy(tracker, tracker->copy_count - 1);
    }
    watch_remove(tracker->watcher, &tracker->folder_watch);
    free(tracker->place);
    free(tracker->generations);
    free(tracker->lengths);
    free(tracker->path);
    root_release(tracker->root);
    free(tracker);
}
