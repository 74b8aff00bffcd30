#include "reading/tail.h"

#include "fail.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

/* Size of one read, and maximum bytes of one call. */
#define BLOCK ((size_t)65536)
#define CALL_BYTES ((size_t)1 << 20)

/* Reads one block. Returns the number of bytes, or -1 and errno. */
static ssize_t read_block(struct reader *reader, char *block, off_t offset, off_t end) {
    off_t left = end - offset;
    return content_read(&reader->content, block, left < (off_t)BLOCK ? (size_t)left : BLOCK, offset);
}

static chanserv_status found(struct reader *reader, off_t offset) {
    reader->offset = offset;
    return CHANSERV_READY;
}

/* Searches backwards for the line endings before the last lines. */
static chanserv_status search_backwards(struct tail *tail, struct reader *reader, char *block, chanserv_error *error) {
    for (size_t budget = CALL_BYTES; budget >= BLOCK && tail->searched > 0; budget -= BLOCK) {
        off_t begin = tail->searched > (off_t)BLOCK ? tail->searched - (off_t)BLOCK : 0;
        ssize_t count = read_block(reader, block, begin, tail->searched);
        if (count < 0) {
            return fail_errno(error, errno, "cannot be read", reader->path);
        }
        if (begin + count < tail->searched) {
            return found(reader, 0); /* it was truncated meanwhile */
        }
        for (ssize_t i = count; i > 0; i--) {
            /* The line ending at the end of the file ends the last line. */
            if (block[i - 1] == '\n' && (begin + i < tail->end || tail->count == 0) && tail->lines-- <= 1) {
                return found(reader, begin + i);
            }
        }
        tail->searched = begin;
    }
    return tail->searched > 0 ? CHANSERV_PENDING : found(reader, 0);
}

/* Counts the lines of a compressed file from its beginning, and then passes those that are not the last ones. */
static chanserv_status search_forwards(struct tail *tail, struct reader *reader, char *block, chanserv_error *error) {
    for (size_t budget = CALL_BYTES; budget >= BLOCK; budget -= BLOCK) {
        ssize_t count = read_block(reader, block, tail->searched, INT64_MAX);
        if (count < 0 && errno == EBADMSG) {
            return fail(error, CHANSERV_ERROR_BAD_REQUEST, "%s: cannot be decompressed: %s", reader->path,
                        reader->content.problem);
        }
        if (count < 0) {
            return fail_errno(error, errno, "cannot be read", reader->path);
        }
        for (ssize_t i = 0; i < count && tail->lines < 0; i++) {
            if (block[i] == '\n' && ++tail->lines == 0) {
                return found(reader, tail->searched + i + 1);
            }
        }
        if (count > 0) {
            for (ssize_t i = 0; i < count && tail->end >= 0; i++) {
                tail->lines += block[i] == '\n';
            }
            tail->searched += count;
            if (tail->end >= 0) {
                tail->end = block[count - 1] == '\n' ? 0 : 1; /* lines without an ending */
            }
            continue;
        }
        int64_t passed = tail->lines + tail->end - tail->count;
        if (tail->count == 0 || passed <= 0) {
            return found(reader, tail->count == 0 ? tail->searched : 0);
        }
        tail->lines = -passed;
        tail->end = -1;
        tail->searched = 0;
    }
    return CHANSERV_PENDING;
}

chanserv_status tail_search(struct tail *tail, struct reader *reader, off_t end, bool whole_lines,
                            chanserv_error *error) {
    bool backwards = reader->content.compression == COMPRESSION_NONE;
    /* A rotated file may have been compressed since the search has begun. */
    if (!tail->begun || tail->backwards != backwards) {
        if (tail->count == 0 && backwards && !whole_lines) {
            return found(reader, end);
        }
        tail->begun = true;
        tail->backwards = backwards;
        tail->end = tail->searched = backwards ? end : 0;
        tail->lines = backwards ? tail->count : 0;
    }
    char *block = malloc(BLOCK);
    if (block == NULL) {
        return fail_errno(error, ENOMEM, "no memory to find its last lines", reader->path);
    }
    chanserv_status status = backwards ? search_backwards(tail, reader, block, error)
                                       : search_forwards(tail, reader, block, error);
    free(block);
    return status;
}
