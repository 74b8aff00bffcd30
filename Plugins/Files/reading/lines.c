#define _GNU_SOURCE
#include "fail.h"
#include "reading/reader_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns the number of bytes of a line that belong to its frame. */
static size_t stripped(const struct cut *cut, const char *line, size_t length) {
    if (cut->strip && length > 0 && line[length - 1] == '\n') {
        length -= length > 1 && line[length - 2] == '\r' ? 2 : 1;
    }
    return length;
}

/* ---- Long lines ---- */

/* Sends the `length` bytes at the offset as a frame. They are not in a buffer and are read directly into the sink. */
static enum read_result send_long_line(struct reading *reading, size_t length) {
    struct reader *reader = reading->reader;
    size_t capacity;
    char *room = reading->sink->reserve(reading->sink, length, &capacity);
    if (room == NULL) {
        return READ_MORE;
    }
    ssize_t count = read_at(reader, room, length, reader->offset);
    if (count < 0) {
        return read_failed(reading, errno);
    }
    spend(reading, length);
    if ((size_t)count < length) {
        return READ_END; /* it was truncated meanwhile: reader_check_whole reports that */
    }
    struct anchor anchor = anchor_of(room, length);
    chanserv_status status = reading->sink->commit(reading->sink, stripped(reading->cut, room, length));
    if (status != CHANSERV_READY) {
        return not_taken(reading, status);
    }
    move_to(reader, reader->offset + (off_t)length, &anchor);
    return READ_MORE;
}

/* Moves the end of the search behind a hole, which has no line ending. Reading its zero bytes would take long. */
static void search_behind_hole(struct reader *reader) {
    off_t data = lseek(reader->content.file, reader->scanned, SEEK_DATA);
    if (data > reader->scanned && data < reader->limit) {
        reader->scanned = data;
    }
}

/*
 * Searches for the end of a long line behind the bytes that were already searched, and sends the line when it is found.
 */
static enum read_result read_long_line(struct reading *reading, char *buffer) {
    struct reader *reader = reading->reader;
    while (reading->budget > 0) {
        ssize_t count = read_at(reader, buffer, BUFFER_SIZE, reader->scanned);
        if (count < 0) {
            return read_failed(reading, errno);
        }
        spend(reading, (size_t)count);
        const char *ending = memchr(buffer, '\n', (size_t)count);
        size_t before = (size_t)(reader->scanned - reader->offset);
        size_t length = before + (ending != NULL ? (size_t)(ending + 1 - buffer) : (size_t)count);
        if (length > CHANSERV_FRAME_SIZE_MAX && !reader->followed) {
            reading->failure = fail(reading->error, CHANSERV_ERROR_BAD_REQUEST,
                                    "%s: the line at byte %" PRIdMAX " is longer than 100 MiB, the limit of a frame; "
                                    "read this file with `unit: chunks`",
                                    reader->path, (intmax_t)reader->offset);
            return READ_FAILED;
        }
        /* One line must not end a source that is followed. */
        reader->skipping |= length > CHANSERV_FRAME_SIZE_MAX;
        if (ending != NULL || (count == 0 && reading->whole && length > 0)) {
            if (reader->skipping) {
                skip_to(reader, reader->offset + (off_t)length, "a line longer than 100 MiB, the limit of a frame");
                return READ_MORE;
            }
            return send_long_line(reading, length);
        }
        if (count == 0) {
            return READ_END;
        }
        reader->scanned += count;
        if (reader->followed && *buffer == '\0' && reader->content.compression == COMPRESSION_NONE) {
            search_behind_hole(reader);
        }
    }
    return READ_MORE;
}

/* ---- Lines ---- */

enum step {
    STEP_NEXT,  /* the lines of the buffer were sent */
    STEP_AGAIN, /* a hole was skipped: the file must be read again */
    STEP_STOP   /* *result is the result of the poll */
};

/* Sends the lines of the buffer, up to `limit`. Moves *line behind the last one. `end`: the file ends at the limit. */
static enum step send_lines(struct reading *reading, const char **line, const char *limit, bool end,
                            enum read_result *result) {
    struct reader *reader = reading->reader;
    const char *buffer = *line;
    off_t begin = reader->offset;
    while (*line < limit) {
        if (reader->followed && **line == '\0') {
            *result = skip_hole(reader, reading->whole);
            if (*result != READ_FAILED) {
                return *result == READ_MORE ? STEP_AGAIN : STEP_STOP;
            }
        }
        const char *ending = memchr(*line, '\n', (size_t)(limit - *line));
        bool last = ending == NULL && reading->whole && end && !reader->content.failed;
        if (ending == NULL && !last) {
            break;
        }
        size_t length = (size_t)((last ? limit : ending + 1) - *line);
        chanserv_status status = reading->sink->append(reading->sink, *line, stripped(reading->cut, *line, length));
        if (status != CHANSERV_READY) {
            *result = not_taken(reading, status);
            return STEP_STOP;
        }
        *line += length;
        struct anchor anchor = anchor_of(buffer, (size_t)(*line - buffer));
        move_to(reader, begin + (*line - buffer), &anchor);
    }
    return STEP_NEXT;
}

static enum read_result read_with_buffer(struct reading *reading, char *buffer) {
    struct reader *reader = reading->reader;
    while (reading->budget > 0) {
        if (reader->scanned - reader->offset >= (off_t)BUFFER_SIZE) {
            enum read_result result = read_long_line(reading, buffer);
            if (result != READ_MORE || reader->scanned > reader->offset) {
                return result;
            }
            continue;
        }
        ssize_t count = read_at(reader, buffer, BUFFER_SIZE, reader->offset);
        if (count < 0) {
            return read_failed(reading, errno);
        }
        spend(reading, (size_t)count);
        const char *line = buffer, *limit = buffer + count;
        bool end = (size_t)count < BUFFER_SIZE;
        enum read_result result = READ_END;
        switch (send_lines(reading, &line, limit, end, &result)) {
        case STEP_AGAIN:
            continue;
        case STEP_STOP:
            return result;
        case STEP_NEXT:
            break;
        }
        if (end) {
            /* An incomplete line waits for its ending. */
            reader->scanned = reader->offset + (limit - line);
            if (reader->content.failed && content_read(&reader->content, buffer, 1, reader->scanned) < 0) {
                return read_failed(reading, errno);
            }
            return READ_END;
        }
        if (line == buffer) {
            reader->scanned = reader->offset + count;
        }
    }
    return READ_MORE;
}

enum read_result read_lines(struct reading *reading) {
    char *buffer = malloc(BUFFER_SIZE);
    if (buffer == NULL) {
        return read_failed(reading, ENOMEM);
    }
    enum read_result result = read_with_buffer(reading, buffer);
    free(buffer);
    return result;
}
