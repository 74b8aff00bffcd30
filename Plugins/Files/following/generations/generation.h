/* A generation: what a followed path has held from one rotation or truncation to the next. */
#ifndef FILES_GENERATION_H
#define FILES_GENERATION_H

#include "folders/beneath.h"
#include "following/generations/shared_file.h"
#include "following/watching/watch.h"
#include "reading/content.h"
#include "reading/reader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKIPS_MAX 16
#define NAME_SIZE 256
/* Number of checks after which a file that cannot be opened is given up. */
#define TICKS_MAX 3

/* The names of a file in the tracker's folder, as far as events tell; "" if it has none. */
struct file_names {
    char own[NAME_SIZE], last[NAME_SIZE];
    char packed[NAME_SIZE]; /* the name of its compressed form */
    uint32_t cookie, packed_cookie; /* of the renames that are under way; 0: none */
};

/*
 * A generation begins unknown, with the name that an event has announced. Opening it makes it known, and `is` valid. It
 * ends by being sealed: then `end` is valid and never grows. A sealed generation may continue in another file with the
 * same content, a copy or a compressed form; `version` tells that.
 */
struct generation {
    uint64_t number;
    uint64_t born; /* order of the event that created it */
    struct shared_file *file; /* NULL if it is not kept open */
    struct watch watch;       /* for writes, until it is sealed */
    bool known;               /* it was opened, so `is` is valid */
    struct identity is;
    struct file_names names;
    enum compression compression;
    unsigned version; /* changes when its content is in another file */
    bool sealed;    /* it has ended; `end` is valid */
    bool lost;      /* its content is gone */
    bool truncated; /* it began with a truncation */
    bool unseen;    /* it was compressed before it was opened: it may have been truncated before that */
    off_t size;     /* known size */
    off_t end;      /* -1 for a compressed file whose length is not known */
    int64_t sealed_at, ticks;
    size_t head_size;
    char head[HEAD_SIZE];
    size_t skips;
    struct { off_t from, size; } skip[SKIPS_MAX]; /* what was not sent, in the order of the offsets */
};

/* Reads the first bytes of the content of a file. Returns their number, or -1 and errno. */
ssize_t head_try(int file, enum compression compression, char *head);
/* As head_try, but a file that cannot be read has no bytes. */
size_t head_read(int file, enum compression compression, char *head);
/* Whether the content begins with `head`, as far as both are known. At least one byte must be. */
bool generation_has_head(const struct generation *generation, const char *head, size_t size);
/* Whether `head` has all known first bytes of the generation. */
bool generation_begins(const struct generation *generation, const char *head, size_t size);

/* Records that bytes are not sent. Returns false if that was known, and moves *from to the beginning of the skip. */
bool generation_skip(struct generation *generation, off_t *from, off_t size);
/* Returns the number of bytes that are sent of a generation that has ended; 0 if its length is not known. */
off_t generation_delivered(const struct generation *generation);
/* Returns the number of bytes that were sent before the offset in the file. */
off_t generation_position(const struct generation *generation, off_t offset);
/* Returns the offset in the file of the byte that is the `position`th of those that are sent. */
off_t generation_offset(const struct generation *generation, off_t position);

#endif
