/* What reader.c, lines.c and chunks.c share. */
#ifndef FILES_READER_PARTS_H
#define FILES_READER_PARTS_H

#include "reading/reader.h"

/* Size of one read, and of the buffer of a poll, in bytes. Longer lines are read directly into the sink. */
#define BUFFER_SIZE ((size_t)65536)

enum read_result read_lines(struct reading *reading);
enum read_result read_chunks(struct reading *reading);

/*
 * Reads up to `size` bytes. Returns fewer only at the end of the file or at the limit. Returns -1 and errno; ESTALE
 * means that the file was truncated and written again. This is checked after the read, because a check before it would
 * miss a truncation between the two.
 */
ssize_t read_at(struct reader *reader, char *to, size_t size, off_t offset);
/*
 * Skips a hole at the position, where the next byte is zero. A writer that keeps its offset when its file is truncated
 * (copytruncate) leaves one. Returns READ_MORE after skipping bytes, READ_END if there is no data behind the hole yet,
 * and READ_FAILED, without a message, if there is no hole.
 */
enum read_result skip_hole(struct reader *reader, bool whole);

/* Returns the last of `size` bytes. A frame must not be read after the sink has taken it. */
struct anchor anchor_of(const char *bytes, size_t size);
/* Moves the position to `offset`. */
void move_to(struct reader *reader, off_t offset, const struct anchor *before);
/* Moves the position to `offset` without sending the bytes before it. */
void skip_to(struct reader *reader, off_t offset, const char *reason);
void spend(struct reading *reading, size_t bytes);

/* Returns the result for a read that failed with `code`. */
enum read_result read_failed(struct reading *reading, int code);
/* Returns the result for a sink's status other than CHANSERV_READY. */
enum read_result not_taken(struct reading *reading, chanserv_status status);

#endif
