/*
 * What is in a frame. It depends on nothing but the kind, the size, and the numbers of the source and of the frame, so
 * that whoever receives it can tell whether it is the right one.
 *
 * - zero: zeros.
 * - random, magic, text: a head, then a stretch of a block of 1 MiB that repeats without end. The stretch begins where
 *   content_offset says, not counting the head: byte i of the frame is block[(offset + i) mod 1 MiB].
 *   random: the head is the source's and the frame's number (u64 each, little-endian); the block is pseudo random.
 *   magic: as random, with the four bytes `lz4!` before the numbers.
 *   text: the head is both numbers as 8 hexadecimal digits each; the block is lines of a log.
 *
 * In a request with `lend` every stretch begins at 0, so that frames differ in their heads only.
 *
 * A frame that is smaller than its head is the beginning of it.
 */
#ifndef LOAD_CONTENT_H
#define LOAD_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum content_kind { CONTENT_ZERO, CONTENT_TEXT, CONTENT_RANDOM, CONTENT_MAGIC };

#define CONTENT_KINDS 4

/* The names of the kinds, as they are requested. */
extern const char *const content_names[CONTENT_KINDS];

#define CONTENT_BLOCK ((size_t)1 << 20)

/* What the frames of one instance are copied from. */
struct content {
    unsigned char random[CONTENT_BLOCK];
    unsigned char text[CONTENT_BLOCK];
};

void content_fill(struct content *content);

/* Writes a frame of `size` bytes to `frame`. */
void content_write(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                   unsigned char *frame, size_t size);
/* The same for a request with `lend`. */
void content_write_lent(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                        unsigned char *frame, size_t size);
/* Makes `frame`, which content_write_lent has written for another source or number, that of these. */
void content_change_head(enum content_kind kind, uint64_t source, uint64_t number, unsigned char *frame, size_t size);

#endif
