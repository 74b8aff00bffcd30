/*
 * The content of an open file: its bytes, or what its bytes are the compressed form of (.gz, .zst). Decompressing needs
 * a state, which belongs to the struct and may be dropped at any time: the next read starts again at the beginning.
 */
#ifndef FILES_CONTENT_H
#define FILES_CONTENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD };

struct decompressor;

struct content {
    int file; /* -1 if it is not open; belongs to the caller */
    enum compression compression;
    const char *problem; /* what is wrong with the compressed data, after a read that failed with EBADMSG */
    bool failed;     /* the last read returned fewer bytes because of an error, which the next read returns */
    bool incomplete; /* the compressed data ends too early; more may be written */
    struct decompressor *state;
    atomic_size_t *memory; /* counts the bytes of all states; may be NULL */
};

/* Returns the compression that the end of a file name states. */
enum compression compression_of(const char *name);
/* Returns the number of characters by which a file name states its compression. */
size_t compression_suffix(enum compression compression);

/*
 * Reads up to `size` bytes at `offset` of the content. Returns fewer only at the end. Returns -1 and errno; EBADMSG
 * means that the compressed data is corrupt or ends too early.
 */
ssize_t content_read(struct content *content, char *to, size_t size, off_t offset);

/* Returns the length of compressed content whose end a read has reached. */
off_t content_length(const struct content *content);

/* Drops the state. */
void content_drop(struct content *content);
/* Drops the state if the states of all contents together exceed `limit` bytes. */
void content_limit(struct content *content, size_t limit);

#endif
