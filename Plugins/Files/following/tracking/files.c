#define _GNU_SOURCE
#include "following/tracking/files.h"

#include "following/generations/generations.h"
#include "following/tracking/rotated.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- By name ---- */

/* Writes the path of a file in the tracker's folder, beneath `base`. Returns false if it is too long. */
static bool path_of(const struct tracker *tracker, const char *name, char *path) {
    const char *slash = *tracker->place != '\0' && *name != '\0' ? "/" : "";
    return snprintf(path, PATH_MAX, "%s%s%s", tracker->place, slash, name) < PATH_MAX;
}

bool files_identify(const struct tracker *tracker, const char *name, struct identity *is) {
    char path[PATH_MAX];
    return tracker->base >= 0 && path_of(tracker, name, path) && beneath_identify(tracker->base, path, is) == 0 &&
           S_ISREG(is->mode);
}

struct shared_file *files_open(const struct tracker *tracker, const char *name, struct identity *is) {
    char path[PATH_MAX];
    if (tracker->base < 0 || *name == '\0' || !path_of(tracker, name, path)) {
        errno = ENOENT;
        return NULL;
    }
    int file = beneath_open(tracker->base, path, O_RDONLY);
    if (file < 0) {
        return NULL;
    }
    if (identify(file, is) != 0 || !S_ISREG(is->mode)) {
        close(file);
        errno = ENOENT;
        return NULL;
    }
    return shared_new(file);
}

/* Opens the compressed form of a file that was removed. Its content begins like that of the generation. */
static struct shared_file *open_packed(const struct tracker *tracker, const struct generation *generation,
                                       struct identity *is, enum compression *compression) {
    struct shared_file *file = files_open(tracker, generation->names.packed, is);
    if (file == NULL) {
        return NULL;
    }
    char found[HEAD_SIZE];
    *compression = compression_of(generation->names.packed);
    ssize_t size = head_try(file->file, *compression, found);
    /* A file that was never opened may have been empty. */
    if ((size > 0 || (size == 0 && generation->head_size == 0)) && generation_begins(generation, found, (size_t)size)) {
        return file;
    }
    shared_release(file);
    errno = ENOENT;
    return NULL;
}

/* ---- A known generation ---- */

/* Opens the file at `name` if it is that of the generation. Returns NULL and errno. */
static struct shared_file *open_same(const struct tracker *tracker, const struct generation *generation,
                                     const char *name) {
    struct identity is;
    struct shared_file *file = files_open(tracker, name, &is);
    if (file != NULL && !is_same_file(&is, &generation->is)) {
        shared_release(file);
        errno = ESTALE;
        return NULL;
    }
    return file;
}

/* Finds the file by its identity. Without reports the new name is not known. */
static struct shared_file *open_renamed(const struct tracker *tracker, struct generation *generation) {
    struct found *found;
    size_t count = rotated_list(tracker, &found);
    struct shared_file *file = NULL;
    for (size_t i = 0; i < count && file == NULL; i++) {
        file = is_same_file(&found[i].is, &generation->is) ? open_same(tracker, generation, found[i].name) : NULL;
        if (file != NULL) {
            stpcpy(generation->names.own, found[i].name);
        }
    }
    free(found);
    return file;
}

struct shared_file *tracker_open(struct tracker *tracker, struct generation *generation) {
    if (generation->file != NULL) {
        return shared_keep(generation->file);
    }
    struct shared_file *file = open_same(tracker, generation, generation->names.own);
    int code = errno;
    if (file == NULL && generation->sealed && generation->compression == COMPRESSION_NONE &&
        generation->head_size > 0) {
        enum compression compression;
        struct identity is;
        file = open_packed(tracker, generation, &is, &compression);
        if (file != NULL) {
            generation->compression = compression;
            generation->is = is;
        }
    }
    if (file == NULL && (code == ENOENT || code == ESTALE)) {
        file = open_renamed(tracker, generation);
    }
    if (file != NULL) {
        generations_keep_open(tracker, generation, shared_keep(file));
    }
    errno = code;
    return file;
}

/* ---- A new generation or copy ---- */

/* Makes the generation known. Takes the reference. */
static void make_known(struct tracker *tracker, struct generation *generation, struct shared_file *file,
                       const struct identity *is, bool is_copy) {
    generation->known = true;
    generation->is = *is;
    if (!is_copy) {
        tracker->denied = 0;
        watch_add(tracker->watcher, &generation->watch, file->file);
    }
    generations_keep_open(tracker, generation, file);
    tracker->watcher->events++;
}

/* A generation that has not ended has the name again: its renaming was not reported. */
static void rename_known(struct tracker *tracker, const struct identity *is, const char *name) {
    for (size_t i = 0; i < tracker->count; i++) {
        struct generation *same = tracker->generations[i];
        if (same->known && !same->sealed && is_same_file(&same->is, is)) {
            stpcpy(same->names.own, name);
        }
    }
}

/* Whether a generation that could not be opened because of `code` may be opened later. */
static bool may_come(struct tracker *tracker, const struct generation *generation, bool named, bool is_copy, int code) {
    if (!named) {
        /* A renaming within the folder reports both names at once, but perhaps in two reads. */
        bool moving = generation->names.cookie != 0 && generation->ticks == 0;
        if (!moving && !is_copy) {
            tracker_lose(tracker, 1, 0);
        }
        return moving;
    }
    if (code == EACCES || code == EPERM) {
        tracker->denied = is_copy ? tracker->denied : code;
        return !is_copy; /* a log rotation sets the group and mode of the new file last */
    }
    return generation->ticks < TICKS_MAX;
}

bool files_identify_new(struct tracker *tracker, struct generation *generation, bool is_copy) {
    for (int attempt = 0; attempt < 5; attempt++) {
        const struct file_names names = generation->names;
        bool named = *names.own != '\0';
        enum compression compression = COMPRESSION_NONE;
        struct identity is;
        struct shared_file *file = named ? files_open(tracker, names.own, &is)
                                         : open_packed(tracker, generation, &is, &compression);
        int code = errno;
        /*
         * The name may already refer to a later file. Then the kernel has reported the renaming of the one that is
         * wanted, because it was renamed before.
         */
        if (watcher_drain(tracker->watcher) &&
            (strcmp(names.own, generation->names.own) != 0 ||
             (!named && strcmp(names.packed, generation->names.packed) != 0))) {
            shared_release(file);
            continue;
        }
        if (file == NULL) {
            return may_come(tracker, generation, named, is_copy, code);
        }
        if (tracker_knows(tracker, &is)) {
            shared_release(file);
            if (named) {
                rename_known(tracker, &is, names.own);
            }
            return false;
        }
        if (named) {
            make_known(tracker, generation, file, &is, is_copy);
        } else {
            generations_set_ended(tracker, generation, file, &is, "", compression);
            generation->unseen = !is_copy;
        }
        return true;
    }
    return true;
}
