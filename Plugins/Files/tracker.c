#define _GNU_SOURCE
#include "tracker.h"

#include "beneath.h"
#include "fail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Distance of the numbers of two generations, so that others can be inserted. */
#define NUMBER_STEP (UINT64_C(1) << 16)
/* Number of generations whose first bytes are compared with those of a possible copy. */
#define RECENT 64
/* Number of checks after which a file that cannot be opened is given up. */
#define TICKS_MAX 3
/* Maximum attempts to open copies that are being renamed. */
#define SETTLE_ATTEMPTS 1000
/* Maximum rotated files that are examined in a folder. */
#define FOUND_MAX 512
/* Minimum time between two log lines about lost data, in nanoseconds. */
#define TELL_INTERVAL INT64_C(1000000000)

/* ---- Files ---- */

static struct shared_file *share(int file) {
    struct shared_file *shared = malloc(sizeof *shared);
    if (shared == NULL) {
        close(file);
        errno = ENOMEM;
        return NULL;
    }
    atomic_store(&shared->references, 1);
    shared->file = file;
    return shared;
}

static struct shared_file *keep(struct shared_file *file) {
    atomic_fetch_add(&file->references, 1);
    return file;
}

void shared_release(struct shared_file *file) {
    if (atomic_fetch_sub(&file->references, 1) == 1) {
        close(file->file);
        free(file);
    }
}

/* Writes the path of a file in the tracker's folder, beneath `base`. Returns false if it is too long. */
static bool path_of(const struct tracker *tracker, const char *name, char *path) {
    const char *slash = *tracker->place != '\0' && *name != '\0' ? "/" : "";
    return snprintf(path, PATH_MAX, "%s%s%s", tracker->place, slash, name) < PATH_MAX;
}

/* Returns the identity of a file in the tracker's folder without opening it for reading. */
static bool identify_name(const struct tracker *tracker, const char *name, struct identity *is) {
    char path[PATH_MAX];
    return tracker->base >= 0 && path_of(tracker, name, path) && beneath_identify(tracker->base, path, is) == 0 &&
           S_ISREG(is->mode);
}

/* Opens a regular file in the tracker's folder. Returns NULL and errno. */
static struct shared_file *open_name(const struct tracker *tracker, const char *name, struct identity *is) {
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
    return share(file);
}

/* Reads the first bytes of the content. */
static size_t read_head(int file, enum compression compression, char *head) {
    struct content content = {.file = file, .compression = compression};
    ssize_t count = content_read(&content, head, HEAD_SIZE, 0);
    content_drop(&content);
    return count > 0 ? (size_t)count : 0;
}

static bool has_head(const struct generation *generation, const char *head, size_t size) {
    size_t common = generation->head_size < size ? generation->head_size : size;
    return common > 0 && memcmp(generation->head, head, common) == 0;
}

/* Opens the compressed form of a file that was removed. Its content begins with `head`. */
static struct shared_file *open_compressed(const struct tracker *tracker, const struct generation *generation,
                                           struct identity *is, enum compression *compression) {
    struct shared_file *file = open_name(tracker, generation->packed, is);
    if (file == NULL) {
        return NULL;
    }
    char found[HEAD_SIZE];
    *compression = compression_of(generation->packed);
    size_t size = read_head(file->file, *compression, found);
    if (size > 0 && size >= generation->head_size && memcmp(found, generation->head, generation->head_size) == 0) {
        return file;
    }
    shared_release(file);
    errno = ENOENT;
    return NULL;
}

/* ---- The list ---- */

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

/*
 * Keeps the file open if the limit allows it. Files that no follower needs any more give way. Takes the reference.
 */
static void keep_open(struct tracker *tracker, struct generation *generation, struct shared_file *file) {
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

static void free_generation(struct tracker *tracker, struct generation *generation) {
    watch_remove(tracker->watcher, &generation->watch);
    unkeep(tracker, generation);
    free(generation);
}

static struct generation *new_generation(struct tracker *tracker, const char *name) {
    struct generation *generation = calloc(1, sizeof *generation);
    if (generation != NULL) {
        generation->watch = (struct watch){.number = -1, .tracker = tracker};
        generation->born = ++tracker->watcher->events;
        stpcpy(generation->name, name);
    }
    return generation;
}

/* Inserts a generation. Takes it over; frees it and returns false if there is no memory. */
static bool insert(struct tracker *tracker, size_t index, struct generation *generation) {
    if (tracker->count == tracker->capacity) {
        size_t capacity = tracker->capacity == 0 ? 4 : tracker->capacity * 2;
        struct generation **grown = reallocarray(tracker->generations, capacity, sizeof *grown);
        if (grown == NULL) {
            free_generation(tracker, generation);
            tracker_lose(tracker, 1, 0);
            return false;
        }
        tracker->generations = grown;
        tracker->capacity = capacity;
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
    tracker->watcher->events++;
    return true;
}

static void drop(struct tracker *tracker, size_t index) {
    free_generation(tracker, tracker->generations[index]);
    tracker->count--;
    memmove(tracker->generations + index, tracker->generations + index + 1,
            (tracker->count - index) * sizeof *tracker->generations);
    tracker->watcher->events++;
}

static void drop_copy(struct tracker *tracker, size_t index) {
    free_generation(tracker, tracker->copies[index]);
    tracker->copy_count--;
    memmove(tracker->copies + index, tracker->copies + index + 1,
            (tracker->copy_count - index) * sizeof *tracker->copies);
}

static off_t delivered(const struct generation *generation) {
    off_t length = generation->end;
    for (size_t i = 0; i < generation->skips; i++) {
        length -= generation->skip[i].size;
    }
    return length > 0 ? length : 0;
}

/* Forgets generations that no follower needs and that are older than the window. */
static void forget_old(struct tracker *tracker) {
    int64_t now = monotonic_now();
    /* The oldest generation that a slow follower needs is given up when there are too many. */
    while (tracker->count > GENERATIONS_MAX && first_needed(tracker) == 0 && tracker->generations[0]->sealed) {
        for (struct follower *follower = tracker->followers; follower != NULL; follower = follower->next) {
            if (follower->at == tracker->generations[0]) {
                follower->at = tracker->generations[1];
                follower->moved = true;
            }
        }
        tracker_lose(tracker, 1, 0);
        drop(tracker, 0);
    }
    size_t needed = first_needed(tracker), old = 0, kept = 0;
    /* Other followed files need descriptors too. */
    for (size_t i = needed; i > 0; i--) {
        struct generation *generation = tracker->generations[i - 1];
        if (generation->sealed && generation->file != NULL && ++kept > tracker->watcher->limits.open_files / 2) {
            unkeep(tracker, generation);
        }
    }
    while (old < needed && old + 1 < tracker->count && tracker->generations[old]->sealed &&
           (now - tracker->generations[old]->sealed_at >= tracker->watcher->limits.window ||
            needed - old > HISTORY_MAX)) {
        old++;
    }
    if (old == 0) {
        return;
    }
    for (size_t i = 0; i < old; i++) {
        struct generation *generation = tracker->generations[i];
        struct identity last;
        if (generation->file != NULL && generation->compression == COMPRESSION_NONE &&
            identify(generation->file->file, &last) == 0 && last.size > generation->end) {
            /* A process has written to the old file although the new one had data. */
            tracker_lose(tracker, 0, (uint64_t)(last.size - generation->end));
        }
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
            tracker->lengths[tracker->length_count++] = (struct past){generation->number, delivered(generation)};
        }
        free_generation(tracker, generation);
    }
    tracker->count -= old;
    memmove(tracker->generations, tracker->generations + old, tracker->count * sizeof *tracker->generations);
}

void tracker_lose(struct tracker *tracker, uint64_t files, uint64_t bytes) {
    tracker->lost_files += files;
    tracker->lost_bytes += bytes;
    int64_t now = monotonic_now();
    if ((tracker->lost_files == tracker->told_files && tracker->lost_bytes == tracker->told_bytes) ||
        (tracker->told_at != 0 && now - tracker->told_at < TELL_INTERVAL)) {
        return;
    }
    log_line(tracker->watcher->host, CHANSERV_LOG_WARNING,
             "%s: data was rotated away before it was read, or written to a rotated file: %" PRIu64 " files and %" PRIu64 " bytes of others are "
             "missing; %" PRIu64 " files and %" PRIu64 " bytes in total",
             tracker->path, tracker->lost_files - tracker->told_files, tracker->lost_bytes - tracker->told_bytes,
             tracker->lost_files, tracker->lost_bytes);
    tracker->told_files = tracker->lost_files;
    tracker->told_bytes = tracker->lost_bytes;
    tracker->told_at = now;
}

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

/* Whether `name`, of `size` bytes, is what log rotations call a rotated file of the tracker's file. */
static bool is_rotated_name(const struct tracker *tracker, const char *name, size_t size) {
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

static struct generation *with_name(const struct tracker *tracker, const char *name) {
    for (size_t i = 0; i < tracker->count; i++) {
        if (strcmp(tracker->generations[i]->name, name) == 0) {
            return tracker->generations[i];
        }
    }
    for (size_t i = 0; i < tracker->copy_count; i++) {
        if (strcmp(tracker->copies[i]->name, name) == 0) {
            return tracker->copies[i];
        }
    }
    return NULL;
}

static struct generation *with_cookie(const struct tracker *tracker, uint32_t cookie) {
    for (size_t i = 0; i < tracker->count; i++) {
        if (tracker->generations[i]->cookie == cookie) {
            return tracker->generations[i];
        }
    }
    for (size_t i = 0; i < tracker->copy_count; i++) {
        if (tracker->copies[i]->cookie == cookie) {
            return tracker->copies[i];
        }
    }
    return NULL;
}

static bool knows(const struct tracker *tracker, const struct identity *is) {
    for (size_t i = tracker->count; i > 0; i--) {
        if (tracker->generations[i - 1]->known && is_same_file(&tracker->generations[i - 1]->is, is)) {
            return true;
        }
    }
    for (size_t i = 0; i < tracker->copy_count; i++) {
        if (tracker->copies[i]->known && is_same_file(&tracker->copies[i]->is, is)) {
            return true;
        }
    }
    return false;
}

static void lose_name(struct generation *generation) {
    stpcpy(generation->last_name, generation->name);
    generation->name[0] = '\0';
}

static void add_copy(struct tracker *tracker, const char *name) {
    /* update() makes room. Nothing is freed here, because events are also processed while the list is used. */
    if (tracker->copy_count == COPIES_MAX) {
        return;
    }
    struct generation *copy = new_generation(tracker, name);
    if (copy != NULL) {
        tracker->copies[tracker->copy_count++] = copy;
    }
}

typedef bool visitor(struct generation *generation, const char *name, uint32_t cookie);

/* Calls `visit` for all generations and possible copies until it returns true. */
static void each(struct tracker *tracker, visitor *visit, const char *name, uint32_t cookie) {
    for (size_t i = tracker->count; i > 0; i--) {
        if (visit(tracker->generations[i - 1], name, cookie)) {
            return;
        }
    }
    for (size_t i = tracker->copy_count; i > 0; i--) {
        if (visit(tracker->copies[i - 1], name, cookie)) {
            return;
        }
    }
}

static bool unpack(struct generation *generation, const char *name, uint32_t cookie) {
    bool same = strcmp(generation->packed, name) == 0;
    if (same) {
        generation->packed[0] = '\0';
        generation->packed_cookie = cookie;
    }
    return same;
}

static bool repack(struct generation *generation, const char *name, uint32_t cookie) {
    bool same = generation->packed_cookie == cookie;
    if (same) {
        stpcpy(generation->packed, name);
        generation->packed_cookie = 0;
    }
    return same;
}

static bool pack(struct generation *generation, const char *name, uint32_t cookie) {
    (void)cookie;
    size_t size = strlen(name) - (compression_of(name) == COMPRESSION_GZIP ? 3 : 4);
    const char *own = *generation->name != '\0' ? generation->name : generation->last_name;
    bool same = strlen(own) == size && memcmp(own, name, size) == 0;
    if (same) {
        stpcpy(generation->packed, name);
    }
    return same;
}

/* Follows the names of the compressed forms of rotated files. */
static void follow_packed(struct tracker *tracker, uint32_t mask, uint32_t cookie, const char *name) {
    if ((mask & (IN_MOVED_FROM | IN_DELETE)) != 0) {
        each(tracker, unpack, name, (mask & IN_MOVED_FROM) != 0 ? cookie : 0);
    } else if ((mask & IN_MOVED_TO) != 0) {
        each(tracker, unpack, name, 0);
        each(tracker, repack, name, cookie);
    } else if ((mask & IN_CREATE) != 0) {
        each(tracker, pack, name, 0);
    }
}

void tracker_event(struct tracker *tracker, uint32_t mask, uint32_t cookie, const char *name) {
    bool is_base = strcmp(name, tracker->name) == 0;
    if (strlen(name) >= NAME_SIZE) {
        return;
    }
    if (compression_of(name) != COMPRESSION_NONE) {
        follow_packed(tracker, mask, cookie, name);
    }
    struct generation *named = with_name(tracker, name);
    if (named == NULL && !is_base && (mask & (IN_CREATE | IN_MOVED_TO)) == 0) {
        if ((mask & IN_MOVED_FROM) != 0 && is_rotated_name(tracker, name, strlen(name))) {
            tracker->foreign_cookie = cookie; /* an old file, not a new copy */
        }
        return;
    }
    if ((mask & IN_MOVED_FROM) != 0) {
        if (named != NULL) {
            lose_name(named);
            named->cookie = cookie;
        }
    } else if ((mask & IN_DELETE) != 0) {
        if (named != NULL) {
            lose_name(named);
        }
    } else if ((mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
        if (named != NULL) {
            lose_name(named); /* another file was renamed to its name */
        }
        struct generation *moved = (mask & IN_MOVED_TO) != 0 ? with_cookie(tracker, cookie) : NULL;
        if (moved != NULL) {
            moved->cookie = 0;
            stpcpy(moved->name, name);
        } else if (is_base && (mask & IN_ISDIR) == 0) {
            struct generation *created = new_generation(tracker, name);
            if (created != NULL) {
                insert(tracker, tracker->count, created);
            }
            tracker->arrivals++;
        } else if (is_rotated_name(tracker, name, strlen(name)) && (mask & IN_ISDIR) == 0 &&
                   ((mask & IN_MOVED_TO) == 0 || cookie != tracker->foreign_cookie)) {
            add_copy(tracker, name);
            tracker->arrivals++;
        } else {
            return;
        }
    }
    tracker_mark(tracker);
}

/* ---- Files that were found by their names ---- */

struct found {
    struct identity is;
    char name[NAME_SIZE];
};

static int by_time(const void *one, const void *other) {
    const struct found *a = one, *b = other;
    if (a->is.changed != b->is.changed) {
        return a->is.changed < b->is.changed ? -1 : 1;
    }
    return strcmp(b->name, a->name);
}

/* Lists the rotated files in the folder, oldest last write first. The caller frees the list. */
static size_t list_rotated(const struct tracker *tracker, struct found **list) {
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
        size_t size = strlen(entry->d_name);
        size -= compression == COMPRESSION_GZIP ? 3 : compression == COMPRESSION_ZSTD ? 4 : 0;
        if (strlen(entry->d_name) < NAME_SIZE && is_rotated_name(tracker, entry->d_name, size) &&
            identify_name(tracker, entry->d_name, &found[count].is)) {
            stpcpy(found[count++].name, entry->d_name);
        }
    }
    closedir(listing);
    /* While a file is being compressed, both forms exist. */
    for (size_t i = 0; i < count;) {
        bool doubled = false;
        size_t size = strlen(found[i].name);
        size -= compression_of(found[i].name) == COMPRESSION_GZIP   ? 3
                : compression_of(found[i].name) == COMPRESSION_ZSTD ? 4
                                                                    : size;
        for (size_t j = 0; j < count && size > 0 && !doubled; j++) {
            doubled = strlen(found[j].name) == size && memcmp(found[j].name, found[i].name, size) == 0;
        }
        if (doubled) {
            found[i] = found[--count];
        } else {
            i++;
        }
    }
    if (count > 0) {
        qsort(found, count, sizeof *found, by_time);
    }
    *list = found;
    return count;
}

/* Makes `generation` an ended generation with the content of a rotated file. Takes the reference. */
static void set_ended(struct tracker *tracker, struct generation *generation, struct shared_file *file,
                      const struct identity *is, const char *name, enum compression compression) {
    generation->known = generation->sealed = true;
    generation->lost = false;
    generation->version++;
    generation->is = *is;
    generation->compression = compression;
    struct identity now;
    off_t size = identify(file->file, &now) == 0 ? now.size : is->size;
    generation->end = compression == COMPRESSION_NONE ? size : -1;
    generation->size = compression == COMPRESSION_NONE ? size : generation->size;
    generation->sealed_at = monotonic_now();
    stpcpy(generation->name, name);
    if (generation->head_size < HEAD_SIZE) {
        generation->head_size = read_head(file->file, compression, generation->head);
    }
    keep_open(tracker, generation, file);
}

/* Whether a recent generation, or a file with these first bytes, has the same content as the copy. */
static bool is_known_content(const struct tracker *tracker, const char *head, size_t size,
                             const struct generation *except) {
    for (size_t i = tracker->count; i > 0 && i + RECENT > tracker->count; i--) {
        if (tracker->generations[i - 1] != except && has_head(tracker->generations[i - 1], head, size)) {
            return true;
        }
    }
    return false;
}

/*
 * Finds rotated files behind the generation `index` - 1 that were missed, because there were no reports, and inserts
 * them before `index`. Returns whether there were any.
 */
static bool insert_missed_files(struct tracker *tracker, size_t index, int64_t since, const char *head,
                                size_t head_size) {
    struct found *found;
    size_t count = list_rotated(tracker, &found);
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        struct identity is;
        if (found[i].is.changed < since || knows(tracker, &found[i].is)) {
            continue;
        }
        struct shared_file *file = open_name(tracker, found[i].name, &is);
        if (file == NULL) {
            continue;
        }
        char own[HEAD_SIZE];
        size_t own_size = read_head(file->file, compression_of(found[i].name), own);
        size_t common = own_size < head_size ? own_size : head_size;
        struct generation *missed = NULL;
        if (own_size > 0 && (common == 0 || memcmp(own, head, common) != 0) &&
            !is_known_content(tracker, own, own_size, NULL)) {
            missed = new_generation(tracker, found[i].name);
        }
        if (missed == NULL || !insert(tracker, index, missed)) {
            shared_release(file);
            continue;
        }
        set_ended(tracker, missed, file, &is, found[i].name, compression_of(found[i].name));
        index++;
        any = true;
    }
    free(found);
    return any;
}

/* ---- Opening ---- */

struct shared_file *tracker_open(struct tracker *tracker, struct generation *generation) {
    if (generation->file != NULL) {
        return keep(generation->file);
    }
    struct identity is;
    struct shared_file *file = open_name(tracker, generation->name, &is);
    if (file != NULL && is_same_file(&is, &generation->is)) {
        keep_open(tracker, generation, keep(file));
        return file;
    }
    int code = file != NULL ? ESTALE : errno;
    if (file != NULL) {
        shared_release(file);
    }
    if (generation->sealed && generation->compression == COMPRESSION_NONE && generation->head_size > 0) {
        enum compression compression;
        file = open_compressed(tracker, generation, &is, &compression);
        if (file != NULL) {
            generation->compression = compression;
            generation->is = is;
            keep_open(tracker, generation, keep(file));
            return file;
        }
    }
    /* Without reports the new name is not known. */
    struct found *found;
    size_t count = code == ENOENT || code == ESTALE ? list_rotated(tracker, &found) : 0;
    for (size_t i = 0; i < count; i++) {
        if (is_same_file(&found[i].is, &generation->is)) {
            file = open_name(tracker, found[i].name, &is);
            if (file != NULL && is_same_file(&is, &generation->is)) {
                stpcpy(generation->name, found[i].name);
                free(found);
                keep_open(tracker, generation, keep(file));
                return file;
            }
            if (file != NULL) {
                shared_release(file);
            }
        }
    }
    if (code == ENOENT || code == ESTALE) {
        free(found);
    }
    errno = code;
    return NULL;
}

/* Opens a file that events have reported. Returns false if it has to be given up. */
static bool identify_new(struct tracker *tracker, struct generation *generation, bool is_copy) {
    for (int attempt = 0; attempt < 5; attempt++) {
        struct identity is;
        char name[NAME_SIZE];
        stpcpy(name, generation->name);
        struct shared_file *file = open_name(tracker, name, &is);
        int code = errno;
        /*
         * The name may already refer to a later file. Then the kernel has reported the renaming of the one that is
         * wanted, because it was renamed before.
         */
        if (watcher_drain(tracker->watcher) && strcmp(name, generation->name) != 0) {
            if (file != NULL) {
                shared_release(file);
            }
            continue;
        }
        if (file != NULL) {
            if (knows(tracker, &is)) {
                shared_release(file);
                for (size_t i = 0; i < tracker->count; i++) {
                    struct generation *same = tracker->generations[i];
                    if (same != generation && same->known && !same->sealed && is_same_file(&same->is, &is)) {
                        stpcpy(same->name, name);
                    }
                }
                return false;
            }
            generation->known = true;
            generation->is = is;
            if (!is_copy) {
                tracker->denied = 0;
                watch_add(tracker->watcher, &generation->watch, file->file);
            }
            keep_open(tracker, generation, file);
            tracker->watcher->events++;
            return true;
        }
        if (*name == '\0') {
            enum compression compression;
            char packed[NAME_SIZE];
            stpcpy(packed, generation->packed);
            file = open_compressed(tracker, generation, &is, &compression);
            if (watcher_drain(tracker->watcher) && strcmp(packed, generation->packed) != 0) {
                if (file != NULL) {
                    shared_release(file);
                }
                continue;
            }
            if (file != NULL && knows(tracker, &is)) {
                shared_release(file);
                return false;
            }
            if (file != NULL) {
                set_ended(tracker, generation, file, &is, "", compression);
                return true;
            }
            /* A renaming within the folder reports both names at once, but perhaps in two reads. */
            if (generation->cookie != 0 && generation->ticks == 0) {
                return true;
            }
            if (!is_copy) {
                tracker_lose(tracker, 1, 0);
            }
            return false;
        }
        if (code == EACCES || code == EPERM) {
            tracker->denied = is_copy ? tracker->denied : code;
            return !is_copy; /* a log rotation sets the group and mode of the new file last */
        }
        return generation->ticks < TICKS_MAX;
    }
    return true;
}

/* ---- Truncation and sealing ---- */

static void identify_copies(struct tracker *tracker) {
    for (size_t i = 0; i < tracker->copy_count;) {
        struct generation *copy = tracker->copies[i];
        if (!copy->known && !identify_new(tracker, copy, true)) {
            /* Events may have moved it within the list. */
            for (size_t j = 0; j < tracker->copy_count; j++) {
                if (tracker->copies[j] == copy) {
                    drop_copy(tracker, j);
                    break;
                }
            }
            continue;
        }
        struct shared_file *file = copy->known && copy->head_size < HEAD_SIZE ? tracker_open(tracker, copy) : NULL;
        if (file != NULL) {
            copy->head_size = read_head(file->file, copy->compression, copy->head);
            shared_release(file);
        }
        i++;
    }
}

/*
 * Identifies all copies that exist by now. Renaming a copy again and again may prevent that for a moment, because it
 * has to be opened between two of them.
 */
static void settle_copies(struct tracker *tracker) {
    for (int attempt = 0; attempt < SETTLE_ATTEMPTS; attempt++) {
        watcher_drain(tracker->watcher);
        identify_copies(tracker);
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

static bool is_complete_copy(struct tracker *tracker, const struct generation *generation, struct generation *copy) {
    size_t size = generation->head_size;
    if (!copy->known || size == 0 || copy->head_size < size || memcmp(copy->head, generation->head, size) != 0) {
        return false;
    }
    struct shared_file *file = copy->compression == COMPRESSION_NONE ? tracker_open(tracker, copy) : NULL;
    struct identity now;
    bool complete = copy->compression != COMPRESSION_NONE ||
                    (file != NULL && identify(file->file, &now) == 0 && now.size >= generation->size);
    if (file != NULL) {
        shared_release(file);
    }
    return complete;
}

/* Finds the copy of a truncated file, in which its generation continues. Returns false if there is none. */
static bool adopt_copy(struct tracker *tracker, struct generation *generation) {
    for (size_t i = 0; i < tracker->copy_count; i++) {
        struct generation *copy = tracker->copies[i];
        if (!is_complete_copy(tracker, generation, copy)) {
            continue;
        }
        struct shared_file *file = tracker_open(tracker, copy);
        if (file == NULL) {
            continue;
        }
        stpcpy(generation->last_name, copy->last_name);
        set_ended(tracker, generation, file, &copy->is, copy->name, copy->compression);
        generation->cookie = copy->cookie;
        stpcpy(generation->packed, copy->packed);
        generation->packed_cookie = copy->packed_cookie;
        drop_copy(tracker, i);
        return true;
    }
    struct found *found;
    size_t count = list_rotated(tracker, &found);
    bool adopted = false;
    for (size_t i = count; i > 0 && !adopted; i--) {
        const struct found *candidate = &found[i - 1];
        enum compression compression = compression_of(candidate->name);
        if (knows(tracker, &candidate->is) ||
            (compression == COMPRESSION_NONE && candidate->is.size < generation->size)) {
            continue;
        }
        struct identity is;
        struct shared_file *file = open_name(tracker, candidate->name, &is);
        if (file == NULL) {
            continue;
        }
        char head[HEAD_SIZE];
        size_t size = read_head(file->file, compression, head);
        if (generation->head_size > 0 && size >= generation->head_size &&
            memcmp(head, generation->head, generation->head_size) == 0) {
            set_ended(tracker, generation, file, &is, candidate->name, compression);
            adopted = true;
        } else {
            shared_release(file);
        }
    }
    free(found);
    return adopted;
}

/* Ends the generation at `index`, whose file was truncated, and begins the next one with the same file. */
static void truncated(struct tracker *tracker, size_t index) {
    struct generation *old = tracker->generations[index];
    struct generation *following = new_generation(tracker, old->name);
    if (following == NULL) {
        return; /* the next check finds it again */
    }
    following->known = following->truncated = true;
    following->born = old->born;
    following->is = old->is;
    following->cookie = old->cookie;
    stpcpy(following->packed, old->packed);
    following->packed_cookie = old->packed_cookie;
    old->packed[0] = '\0';
    old->packed_cookie = 0;
    stpcpy(following->last_name, old->last_name);
    struct shared_file *file = old->file;
    old->file = NULL;
    old->name[0] = old->last_name[0] = '\0';
    old->cookie = 0;
    if (file != NULL) {
        watch_add(tracker->watcher, &following->watch, file->file);
    } else {
        struct identity is;
        file = open_name(tracker, following->name, &is);
        if (file != NULL) {
            watch_add(tracker->watcher, &following->watch, file->file);
            shared_release(file);
            file = NULL;
        }
    }
    following->file = file;
    watch_remove(tracker->watcher, &old->watch);
    if (!insert(tracker, index + 1, following)) {
        return;
    }
    settle_copies(tracker);
    if (!adopt_copy(tracker, old)) {
        old->sealed = old->lost = true;
        old->end = old->size;
        old->sealed_at = monotonic_now();
    }
    log_line(tracker->watcher->host, CHANSERV_LOG_DEBUG, "%s: was truncated; starting over", tracker->path);
}

/*
 * A file gets its first bytes. If it was truncated before that was noticed, copies exist of what it had before. Inserts
 * them before it.
 */
static bool insert_missed_copies(struct tracker *tracker, size_t index, const char *head, size_t head_size) {
    struct generation *generation = tracker->generations[index];
    /* A rotated file that is unpacked again to be looked at has its old time. */
    int64_t since = generation->is.born_seconds * INT64_C(1000000000) + generation->is.born_nanoseconds;
    uint64_t after = index > 0 ? tracker->generations[index - 1]->born : 0;
    uint64_t before = index + 1 < tracker->count ? tracker->generations[index + 1]->born : UINT64_MAX;
    bool any = false;
    for (size_t i = 0; i < tracker->copy_count;) {
        struct generation *copy = tracker->copies[i];
        size_t common = copy->head_size < head_size ? copy->head_size : head_size;
        if (!copy->known || common == 0 || memcmp(copy->head, head, common) == 0 || copy->born < after ||
            copy->born > before || copy->is.changed < since || is_known_content(tracker, copy->head, copy->head_size, NULL)) {
            i++;
            continue;
        }
        struct shared_file *file = tracker_open(tracker, copy);
        struct generation *missed = file == NULL ? NULL : new_generation(tracker, copy->name);
        if (missed != NULL && insert(tracker, index, missed)) {
            stpcpy(missed->last_name, copy->last_name);
            set_ended(tracker, missed, keep(file), &copy->is, copy->name, copy->compression);
            missed->cookie = copy->cookie;
            stpcpy(missed->packed, copy->packed);
            missed->packed_cookie = copy->packed_cookie;
            missed->truncated = generation->truncated;
            missed->born = copy->born;
            /* Followers and clients at the beginning of the generation continue with what was missed. */
            missed->number = generation->number++;
            for (struct follower *follower = tracker->followers; follower != NULL; follower = follower->next) {
                if (follower->at == generation) {
                    follower->at = missed;
                    follower->moved = true;
                }
            }
            index++;
            any = true;
        }
        if (file != NULL) {
            shared_release(file);
        }
        drop_copy(tracker, i);
    }
    return any;
}

/*
 * Few first bytes do not tell two contents apart. If a copy begins with them and continues differently, the file was
 * truncated after the copy was made.
 */
static bool has_other_copy(struct tracker *tracker, const struct generation *generation, const char *head,
                           size_t head_size) {
    for (size_t i = 0; i < tracker->copy_count; i++) {
        struct generation *copy = tracker->copies[i];
        size_t common = copy->head_size < head_size ? copy->head_size : head_size;
        if (copy->born > generation->born && common > generation->head_size &&
            memcmp(copy->head, head, common) != 0 && is_complete_copy(tracker, generation, copy) &&
            !is_known_content(tracker, copy->head, copy->head_size, generation)) {
            return true;
        }
    }
    return false;
}

/* Looks at the file of an open generation. Returns whether the list has changed. */
static bool check(struct tracker *tracker, size_t index) {
    struct generation *generation = tracker->generations[index];
    struct shared_file *file = tracker_open(tracker, generation);
    if (file == NULL) {
        return false;
    }
    char head[HEAD_SIZE], again[HEAD_SIZE];
    struct identity now;
    size_t head_size = 0, again_size = 0;
    bool failed = true;
    /* A size must not be used without the first bytes of the same content. */
    for (int attempt = 0; attempt < 10; attempt++) {
        head_size = read_head(file->file, COMPRESSION_NONE, head);
        failed = identify(file->file, &now) != 0;
        again_size = failed ? 0 : read_head(file->file, COMPRESSION_NONE, again);
        if (failed || (off_t)head_size >= now.size || head_size == HEAD_SIZE) {
            break;
        }
        failed = true;
    }
    shared_release(file);
    if (failed) {
        return false;
    }
    size_t size = generation->head_size;
    bool same = head_size >= size && memcmp(head, generation->head, size) == 0 && again_size >= head_size &&
                memcmp(head, again, head_size) == 0;
    if (now.size < generation->size || (!same && size > 0)) {
        truncated(tracker, index);
        return true;
    }
    if (!same) {
        tracker_mark(tracker); /* it was truncated meanwhile */
        return false;
    }
    if (head_size > size) {
        /* A copy that was made before these bytes were written has been reported by now. */
        uint64_t arrivals = tracker->arrivals;
        settle_copies(tracker);
        if (tracker->arrivals != arrivals ||
            (generation->size == 0 && insert_missed_copies(tracker, index, head, head_size))) {
            return true;
        }
        if (generation->size > 0 && has_other_copy(tracker, generation, head, head_size)) {
            truncated(tracker, index);
            return true;
        }
    }
    if (now.size != generation->size) {
        tracker->watcher->events++;
    }
    generation->size = now.size;
    generation->is.changed = now.changed;
    if ((off_t)head_size > now.size) {
        head_size = (size_t)now.size;
    }
    generation->head_size = head_size;
    memcpy(generation->head, head, head_size);
    return false;
}

static void seal(struct tracker *tracker, struct generation *generation) {
    generation->sealed = true;
    generation->end = generation->size;
    generation->sealed_at = monotonic_now();
    watch_remove(tracker->watcher, &generation->watch);
    tracker->watcher->events++;
}

/* One pass over the list. Returns false if the list has changed, so that another pass is needed. */
static bool update(struct tracker *tracker) {
    tracker->denied = 0;
    while (tracker->copy_count > COPIES_KEPT) {
        drop_copy(tracker, 0);
    }
    identify_copies(tracker);
    for (size_t i = 0; i < tracker->count; i++) {
        struct generation *generation = tracker->generations[i];
        if (generation->known) {
            continue;
        }
        size_t count = tracker->count;
        bool last = i + 1 == count;
        bool kept = identify_new(tracker, generation, false);
        if (!kept) {
            for (size_t j = 0; j < tracker->count; j++) {
                if (tracker->generations[j] == generation) {
                    drop(tracker, j);
                    break;
                }
            }
            return false;
        }
        if (generation->known && tracker->scans && last && i > 0) {
            tracker->scans = false;
            char head[HEAD_SIZE];
            size_t size = generation->file == NULL ? 0 : read_head(generation->file->file, COMPRESSION_NONE, head);
            if (insert_missed_files(tracker, i, tracker->generations[i - 1]->is.changed, head, size)) {
                return false;
            }
        }
    }
    size_t filled = 0;
    for (size_t i = 0; i < tracker->count; i++) {
        struct generation *generation = tracker->generations[i];
        if (generation->known && !generation->sealed && check(tracker, i)) {
            return false;
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
            if (check(tracker, i)) {
                return false;
            }
            seal(tracker, generation);
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
        forget_old(tracker);
    }
}

void tracker_changed(struct tracker *tracker, struct generation *generation) {
    for (size_t i = 0; i < tracker->count; i++) {
        if (tracker->generations[i] == generation && generation->known && !generation->sealed) {
            /* The first bytes may be equal. The follower has found that others are not. */
            if (!check(tracker, i) && !generation->sealed) {
                truncated(tracker, i);
            }
            return;
        }
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
    int folder = beneath_open(base, slash == NULL ? "" : place, O_RDONLY | O_DIRECTORY);
    if (folder < 0 && (errno == EACCES || errno == EPERM)) {
        folder = beneath_open(base, slash == NULL ? "" : place, O_PATH | O_DIRECTORY);
    }
    struct identity is;
    bool found = folder >= 0 && identify(folder, &is) == 0;
    bool same = found && tracker->base >= 0 && is_same_file(&is, &tracker->folder_is) &&
                strcmp(name, tracker->name) == 0;
    char *copy = !found || same ? NULL : strdup(slash == NULL ? "" : place);
    if (copy != NULL) {
        for (size_t i = 0; i < tracker->count; i++) {
            struct generation *generation = tracker->generations[i];
            generation->name[0] = generation->last_name[0] = generation->packed[0] = '\0';
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
    if (!identify_name(tracker, tracker->name, &is) || knows(tracker, &is)) {
        return true;
    }
    for (size_t i = 0; i < tracker->count; i++) {
        if (!tracker->generations[i]->known && strcmp(tracker->generations[i]->name, tracker->name) == 0) {
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
        struct generation *created = new_generation(tracker, tracker->name);
        if (created != NULL && insert(tracker, tracker->count, created)) {
            tracker->scans = true;
        }
        break;
    }
    for (size_t i = 0; i < tracker->count; i++) {
        tracker->generations[i]->ticks += !tracker->generations[i]->known;
    }
    for (size_t i = tracker->copy_count; i > 0; i--) {
        struct generation *copy = tracker->copies[i - 1];
        const struct generation *last = tracker->count == 0 ? NULL : tracker->generations[tracker->count - 1];
        /* A copy of the newest file may be followed by its truncation. Others are not needed for long. */
        if (++copy->ticks > TICKS_MAX && (last == NULL || !has_head(last, copy->head, copy->head_size))) {
            drop_copy(tracker, i - 1);
        }
    }
    tracker_update(tracker);
    forget_old(tracker);
    tracker_lose(tracker, 0, 0);
}

struct generation *tracker_next(struct tracker *tracker, const struct generation *generation) {
    size_t index = 0;
    while (generation != NULL && index < tracker->count && tracker->generations[index++] != generation) {
    }
    return index < tracker->count && tracker->generations[index]->known ? tracker->generations[index] : NULL;
}

/* ---- Positions ---- */

/* Returns the offset in the file of the byte that is the `position`th of those that are sent. */
static off_t file_offset(const struct generation *generation, off_t position) {
    for (size_t i = 0; i < generation->skips && position >= generation->skip[i].from; i++) {
        position += generation->skip[i].size;
    }
    return position;
}

/* Goes on from the generation at `index`. */
static struct generation *walk_on(struct tracker *tracker, size_t index, off_t position, off_t *offset) {
    for (; index < tracker->count && tracker->generations[index]->known; index++) {
        struct generation *generation = tracker->generations[index];
        off_t at = file_offset(generation, position);
        if (generation->sealed && generation->end < 0) {
            *offset = at; /* its length is found when it is read */
            return generation;
        }
        if (!generation->sealed || at < generation->end || (at == generation->end && index + 1 == tracker->count)) {
            *offset = at;
            return generation->sealed || at <= generation->size ? generation : NULL;
        }
        position -= delivered(generation);
    }
    return NULL;
}

/* Finds a file by its inode in the folder, and the ones that were rotated after it, and puts them into the list. */
static bool find_on_disk(struct tracker *tracker, uint64_t inode) {
    struct found *found;
    size_t count = list_rotated(tracker, &found), first = count;
    for (size_t i = 0; i < count; i++) {
        if (found[i].is.inode == inode && compression_of(found[i].name) == COMPRESSION_NONE) {
            first = i;
        }
    }
    size_t index = 0;
    for (size_t i = first; i < count; i++) {
        struct identity is;
        struct shared_file *file = knows(tracker, &found[i].is) ? NULL : open_name(tracker, found[i].name, &is);
        if (file == NULL) {
            continue;
        }
        struct generation *old = new_generation(tracker, found[i].name);
        if (old == NULL || !insert(tracker, index, old)) {
            shared_release(file);
            break;
        }
        set_ended(tracker, old, file, &is, found[i].name, compression_of(found[i].name));
        if (index == 0) {
            tracker->length_count = 0;
        }
        index++;
    }
    free(found);
    return index > 0;
}

struct generation *tracker_find(struct tracker *tracker, const struct resume *resume, off_t *offset) {
    if (resume->stream == tracker->stream) {
        off_t position = resume->offset;
        size_t i = 0;
        while (i < tracker->length_count && tracker->lengths[i].number != resume->number) {
            i++;
        }
        bool past = i < tracker->length_count;
        for (; i < tracker->length_count; i++) {
            off_t length = tracker->lengths[i].length;
            if (position < length) {
                return NULL; /* forgotten */
            }
            position -= length;
        }
        for (size_t j = 0; j < tracker->count; j++) {
            if (past || tracker->generations[j]->number == resume->number) {
                return walk_on(tracker, j, position, offset);
            }
        }
        return NULL;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        /* An inode may have had several contents. The newest one that is long enough is the most probable one. */
        for (size_t i = tracker->count; i > 0; i--) {
            struct generation *generation = tracker->generations[i - 1];
            if (generation->known && generation->is.inode == resume->inode) {
                struct generation *at = walk_on(tracker, i - 1, resume->offset, offset);
                if (at != NULL) {
                    return at;
                }
            }
        }
        if (attempt == 0 && !find_on_disk(tracker, resume->inode)) {
            return NULL;
        }
    }
    return NULL;
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
        free_generation(tracker, tracker->generations[--tracker->count]);
    }
    while (tracker->copy_count > 0) {
        drop_copy(tracker, tracker->copy_count - 1);
    }
    watch_remove(tracker->watcher, &tracker->folder_watch);
    free(tracker->place);
    free(tracker->generations);
    free(tracker->lengths);
    free(tracker->path);
    root_release(tracker->root);
    free(tracker);
}
