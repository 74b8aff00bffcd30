/*
 * The contents of a frame. They depend only on the kind, the size, the source number and the frame number, so the
 * receiver can verify each frame.
 *
 * - zero: zero bytes.
 * - random, magic, text: a head, followed by bytes of a 1 MiB block that repeats. After the head, byte i of the frame
 *   is block[(offset + i) mod 1 MiB]; content_offset computes the offset.
 *   random: the head is the source number and the frame number (u64 each, little-endian); the block is pseudorandom.
 *   magic: as random, with the four bytes `lz4!` before the numbers.
 *   text: the head is both numbers as 8 hexadecimal digits each; the block is lines of a log.
 *
 * In a request with `lend` the offset is always 0, so that frames differ only in their heads.
 *
 * A frame smaller than its head is a prefix of the head.
 */
#ifndef LOAD_CONTENT_H
#define LOAD_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum content_kind { CONTENT_ZERO, CONTENT_TEXT, CONTENT_RANDOM, CONTENT_MAGIC };

#define CONTENT_KINDS 4

/* The names of the kinds in a request. */
extern const char *const content_names[CONTENT_KINDS];

#define CONTENT_BLOCK ((size_t)1 << 20)

/* The blocks from which all frames of one instance are copied. */
struct content {
    unsigned char random[CONTENT_BLOCK];
    unsigned char text[CONTENT_BLOCK];
};

void content_fill(struct content *content);

/* Writes a frame of `size` bytes to `frame`. */
void content_write(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                   unsigned char *frame, size_t size);
/* As content_write, for a request with `lend`: the offset is 0. */
void content_write_lent(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                        unsigned char *frame, size_t size);
/* Changes the head of a frame that content_write_lent has written to another source number and frame number. */
void content_change_head(enum content_kind kind, uint64_t source, uint64_t number, unsigned char *frame, size_t size);

#endif
