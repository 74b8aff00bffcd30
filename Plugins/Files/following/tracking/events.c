/* Reports about names in the folder of a tracker: which generation, or possible copy, has which name. */
#define _GNU_SOURCE
#include "following/generations/generations.h"
#include "following/tracking/rotated.h"

#include <string.h>
#include <sys/inotify.h>

/* ---- Finding the file of a name ---- */

typedef bool predicate(const struct file_names *names, const char *name, uint32_t cookie);

/* Returns the first member of the tracker whose names fit; NULL if there is none. */
static struct file_names *find(const struct tracker *tracker, predicate *fits, const char *name, uint32_t cookie) {
    for (size_t i = 0; i < tracker_members(tracker); i++) {
        struct file_names *names = &tracker_member(tracker, i)->names;
        if (fits(names, name, cookie)) {
            return names;
        }
    }
    return NULL;
}

static bool has_name(const struct file_names *names, const char *name, uint32_t cookie) {
    (void)cookie;
    return strcmp(names->own, name) == 0;
}

static bool has_cookie(const struct file_names *names, const char *name, uint32_t cookie) {
    (void)name;
    return names->cookie == cookie;
}

static bool has_packed_name(const struct file_names *names, const char *name, uint32_t cookie) {
    (void)cookie;
    return strcmp(names->packed, name) == 0;
}

static bool has_packed_cookie(const struct file_names *names, const char *name, uint32_t cookie) {
    (void)name;
    return names->packed_cookie == cookie;
}

/* Whether `name` is that of the file, or its last one, with the suffix of a compressed file. */
static bool is_compressed_as(const struct file_names *names, const char *name, uint32_t cookie) {
    (void)cookie;
    size_t size = strlen(name) - compression_suffix(compression_of(name));
    const char *own = *names->own != '\0' ? names->own : names->last;
    return strlen(own) == size && memcmp(own, name, size) == 0;
}

/* ---- Events ---- */

static void add_copy(struct tracker *tracker, const char *name) {
    /* copies_limit makes room. Nothing is freed here, because events are also processed while the list is used. */
    if (tracker->copy_count == COPIES_MAX) {
        return;
    }
    struct generation *copy = generations_new(tracker, name);
    if (copy != NULL) {
        tracker->copies[tracker->copy_count++] = copy;
    }
}

/* Follows the names of the compressed forms of rotated files. */
static void follow_packed(struct tracker *tracker, uint32_t mask, uint32_t cookie, const char *name) {
    if ((mask & (IN_MOVED_FROM | IN_DELETE | IN_MOVED_TO)) != 0) {
        struct file_names *names = find(tracker, has_packed_name, name, 0);
        if (names != NULL) {
            names->packed[0] = '\0';
            names->packed_cookie = (mask & IN_MOVED_FROM) != 0 ? cookie : 0;
        }
    }
    struct file_names *renamed = (mask & IN_MOVED_TO) != 0  ? find(tracker, has_packed_cookie, name, cookie)
                                 : (mask & IN_CREATE) != 0 ? find(tracker, is_compressed_as, name, 0)
                                                           : NULL;
    if (renamed != NULL) {
        stpcpy(renamed->packed, name);
        renamed->packed_cookie = 0;
    }
}

/* A file has got the name. Returns whether that matters for the tracker. */
static bool take_name(struct tracker *tracker, uint32_t mask, uint32_t cookie, const char *name) {
    struct file_names *moved = (mask & IN_MOVED_TO) != 0 ? find(tracker, has_cookie, name, cookie) : NULL;
    if (moved != NULL) {
        moved->cookie = 0;
        stpcpy(moved->own, name);
        return true;
    }
    if ((mask & IN_ISDIR) != 0) {
        return false;
    }
    if (strcmp(name, tracker->name) == 0) {
        generations_insert(tracker, tracker->count, name);
    } else if (rotated_name(tracker, name, strlen(name)) &&
               ((mask & IN_MOVED_TO) == 0 || cookie != tracker->foreign_cookie)) {
        add_copy(tracker, name);
    } else {
        return false;
    }
    tracker->arrivals++;
    return true;
}

void tracker_event(struct tracker *tracker, uint32_t mask, uint32_t cookie, const char *name) {
    if (strlen(name) >= NAME_SIZE) {
        return;
    }
    if (compression_of(name) != COMPRESSION_NONE) {
        follow_packed(tracker, mask, cookie, name);
    }
    struct file_names *named = find(tracker, has_name, name, 0);
    bool arrives = (mask & (IN_CREATE | IN_MOVED_TO)) != 0;
    if (named == NULL && !arrives && strcmp(name, tracker->name) != 0) {
        if ((mask & IN_MOVED_FROM) != 0 && rotated_name(tracker, name, strlen(name))) {
            tracker->foreign_cookie = cookie; /* an old file, not a new copy */
        }
        return;
    }
    if (named != NULL && (arrives || (mask & (IN_MOVED_FROM | IN_DELETE)) != 0)) {
        /* The file was renamed or removed, or another one was renamed to its name. */
        stpcpy(named->last, named->own);
        named->own[0] = '\0';
        named->cookie = (mask & IN_MOVED_FROM) != 0 ? cookie : named->cookie;
    }
    if (!arrives || take_name(tracker, mask, cookie, name)) {
        tracker_mark(tracker);
    }
}
