/*
 * The content of frames. It depends only on the kind, the size, and the numbers of the source and of the frame, so that
 * the receiver can verify it.
 *
 * - zero: zeros.
 * - random, magic, text: a head, followed by bytes of a 1 MiB block that repeats without end. Byte i of the frame is
 *   block[(offset + i) mod 1 MiB], where content_offset determines the offset. The head replaces the first bytes.
 *   random: the head is the numbers of source and frame (u64 each, little-endian); the block is pseudo-random.
 *   magic: as random, with the four bytes `lz4!` before the numbers.
 *   text: the head is both numbers as 8 hexadecimal digits each; the block is lines of a log.
 *
 * In a request with `lend` the offset is always 0, so that frames differ in their heads only.
 *
 * A frame that is smaller than its head consists of the beginning of the head.
 */
#ifndef LOAD_CONTENT_H
#define LOAD_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum content_kind { CONTENT_ZERO, CONTENT_TEXT, CONTENT_RANDOM, CONTENT_MAGIC };

#define CONTENT_KINDS 4

/* The names of the kinds in requests. */
extern const char *const content_names[CONTENT_KINDS];

#define CONTENT_BLOCK ((size_t)1 << 20)

/* The blocks from which the frames of one instance are copied. */
struct content {
    unsigned char random[CONTENT_BLOCK];
    unsigned char text[CONTENT_BLOCK];
};

void content_fill(struct content *content);

/* Writes a frame of `size` bytes to `frame`. */
void content_write(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                   unsigned char *frame, size_t size);
/* As content_write, for a request with `lend`. */
void content_write_lent(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                        unsigned char *frame, size_t size);
/* Changes the numbers in `frame`, which content_write_lent has written for another source or frame. */
void content_change_head(enum content_kind kind, uint64_t source, uint64_t number, unsigned char *frame, size_t size);

#endif
