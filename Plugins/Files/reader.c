#define _GNU_SOURCE
#include "reader.h"

#include "fail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Size of one read, and of the buffer of a poll, in bytes. Longer lines are read directly into the sink. */
#define BUFFER_SIZE ((size_t)65536)

/*
 * Minimum size of chunks that are read into their own memory and lent to the host, in bytes. One such chunk fills a
 * batch of the host's default size. A poll reads only one, so that it does not read a chunk for which the batch has no
 * room.
 */
#define LENT_MIN ((size_t)65536)

/* Maximum zero bytes behind a hole that one step examines. */
#define SKIP_BYTES ((off_t)1 << 20)

/* ---- Opening ---- */

static bool is_gone(int code) {
    return code == ENOENT || code == ENOTDIR || code == ELOOP || code == EXDEV || code == ENXIO;
}

enum open_result reader_open(struct reader *reader, int folder, const char *name) {
    int file = beneath_open(folder, name, O_RDONLY);
    if (file < 0) {
        return is_gone(errno) ? OPEN_GONE : OPEN_FAILED;
    }
    struct identity now;
    if (identify(file, &now) != 0) {
        int code = errno;
        close(file);
        errno = code;
        return OPEN_FAILED;
    }
    if (!S_ISREG(now.mode)) {
        close(file);
        return OPEN_GONE;
    }
    reader->content.file = file;
    if (reader->known && is_same_file(&reader->is, &now)) {
        return OPEN_AGAIN;
    }
    enum open_result result = reader->known ? OPEN_OTHER : OPEN_NEW;
    reader->known = true;
    reader->is = now;
    return result;
}

void reader_close(struct reader *reader) {
    if (reader->content.file >= 0) {
        close(reader->content.file);
        reader->content.file = -1;
    }
}

/* ---- Reading ---- */

/* Whether `size` bytes of the file at `offset` are `bytes`. */
static bool has_bytes(int file, const char *bytes, size_t size, off_t offset) {
    char found[HEAD_SIZE > ANCHOR_SIZE ? HEAD_SIZE : ANCHOR_SIZE];
    return size == 0 || (pread(file, found, size, offset) == (ssize_t)size && memcmp(found, bytes, size) == 0);
}

/*
 * Reads up to `size` bytes. Returns fewer only at the end of the file or at the limit. Returns -1 and errno; ESTALE
 * means that the file was truncated and written again. This is checked after the read, because a check before it would
 * miss a truncation between the two.
 */
static ssize_t read_at(struct reader *reader, char *to, size_t size, off_t offset) {
    if (reader->followed) {
        off_t left = reader->limit > offset ? reader->limit - offset : 0;
        size = (off_t)size < left ? size : (size_t)left;
    }
    ssize_t count = content_read(&reader->content, to, size, offset);
    if (count < 0 || !reader->followed || reader->content.compression != COMPRESSION_NONE) {
        return count;
    }
    if ((size_t)count < size || !has_bytes(reader->content.file, reader->head, reader->head_size, 0) ||
        !has_bytes(reader->content.file, reader->anchor, reader->anchor_size,
                   reader->offset - (off_t)reader->anchor_size)) {
        errno = ESTALE;
        return -1;
    }
    return count;
}

/* Moves the position to `offset`. The `size` bytes before it are at `end` - `size`. */
static void move_to(struct reader *reader, off_t offset, const char *end, size_t size) {
    reader->offset = offset;
    size_t kept = size < ANCHOR_SIZE ? size : ANCHOR_SIZE;
    memcpy(reader->anchor, end - kept, kept);
    reader->anchor_size = kept;
}

/* Moves the position to `offset` without sending the bytes before it. */
static void skip_to(struct reader *reader, off_t offset, const char *reason) {
    reader->skipped(reader, reader->offset, offset - reader->offset, reason);
    reader->offset = offset;
    reader->scanned = 0;
    reader->anchor_size = 0;
    reader->skipping = false;
}

static enum read_result read_failed(const struct reader *reader, int code, chanserv_status *failure,
                                    chanserv_error *error) {
    if (reader->followed && code == ESTALE) {
        return READ_CHANGED;
    }
    if (code == EBADMSG && reader->content.problem != NULL) {
        *failure = fail(error, CHANSERV_ERROR_BAD_REQUEST, "%s: cannot be decompressed: %s", reader->path,
                        reader->content.problem);
        return READ_FAILED;
    }
    *failure = fail_errno(error, code, "cannot be read", reader->path);
    return READ_FAILED;
}

/* Returns the result for a sink's status other than CHANSERV_READY. */
static enum read_result not_taken(const struct reader *reader, chanserv_status status, chanserv_status *failure,
                                  chanserv_error *error) {
    if (status == CHANSERV_FULL) {
        return READ_MORE;
    }
    *failure = fail(error, CHANSERV_ERROR_INTERNAL,
                    "%s: the host refused the frame at byte %" PRIdMAX " (status %" PRId32 ")", reader->path,
                    (intmax_t)reader->offset, status);
    return READ_FAILED;
}

static void spend(size_t *budget, size_t bytes) {
    *budget -= bytes < *budget ? bytes : *budget;
}

/* Returns the number of bytes of a line that belong to its frame. */
static size_t stripped(const struct cut *cut, const char *line, size_t length) {
    if (cut->strip && length > 0 && line[length - 1] == '\n') {
        length -= length > 1 && line[length - 2] == '\r' ? 2 : 1;
    }
    return length;
}

/* Sends the `length` bytes at the offset as a frame. They are not in a buffer and are read directly into the sink. */
static enum read_result send_long_line(struct reader *reader, const struct cut *cut, size_t length, size_t *budget,
                                       chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error) {
    size_t capacity;
    char *room = sink->reserve(sink, length, &capacity);
    if (room == NULL) {
        return READ_MORE;
    }
    ssize_t count = read_at(reader, room, length, reader->offset);
    if (count < 0) {
        return read_failed(reader, errno, failure, error);
    }
    spend(budget, length);
    if ((size_t)count < length) {
        return READ_END; /* it was truncated meanwhile: reader_check_whole reports that */
    }
    /* The room belongs to the host after the commit. */
    char tail[ANCHOR_SIZE];
    size_t kept = length < sizeof tail ? length : sizeof tail;
    memcpy(tail, room + length - kept, kept);
    chanserv_status status = sink->commit(sink, stripped(cut, room, length));
    if (status != CHANSERV_READY) {
        return not_taken(reader, status, failure, error);
    }
    move_to(reader, reader->offset + (off_t)length, tail + kept, kept);
    return READ_MORE;
}

/*
 * Searches for the end of a long line behind the bytes that were already searched, and sends the line when it is found.
 */
static enum read_result read_long_line(struct reader *reader, const struct cut *cut, bool whole, char *buffer,
                                       size_t *budget, chanserv_frame_sink *sink, chanserv_status *failure,
                                       chanserv_error *error) {
    while (*budget > 0) {
        ssize_t count = read_at(reader, buffer, BUFFER_SIZE, reader->scanned);
        if (count < 0) {
            return read_failed(reader, errno, failure, error);
        }
        spend(budget, (size_t)count);
        const char *ending = memchr(buffer, '\n', (size_t)count);
        size_t before = (size_t)(reader->scanned - reader->offset);
        size_t length = before + (ending != NULL ? (size_t)(ending + 1 - buffer) : (size_t)count);
        if (length > CHANSERV_FRAME_SIZE_MAX && !reader->followed) {
            *failure = fail(error, CHANSERV_ERROR_BAD_REQUEST,
                            "%s: the line at byte %" PRIdMAX " is longer than 100 MiB, the limit of a frame; read this "
                            "file with `unit: chunks`",
                            reader->path, (intmax_t)reader->offset);
            return READ_FAILED;
        }
        /* One line must not end a source that is followed. */
        reader->skipping |= length > CHANSERV_FRAME_SIZE_MAX;
        if (ending != NULL || (count == 0 && whole && length > 0)) {
            if (reader->skipping) {
                skip_to(reader, reader->offset + (off_t)length, "a line longer than 100 MiB, the limit of a frame");
                return READ_MORE;
            }
            return send_long_line(reader, cut, length, budget, sink, failure, error);
        }
        if (count == 0) {
            return READ_END;
        }
        reader->scanned += count;
        if (reader->followed && *buffer == '\0' && reader->content.compression == COMPRESSION_NONE) {
            /* A hole has no line ending. Reading its zero bytes would take long. */
            off_t data = lseek(reader->content.file, reader->scanned, SEEK_DATA);
            if (data > reader->scanned && data < reader->limit) {
                reader->scanned = data;
            }
        }
    }
    return READ_MORE;
}

/*
 * Skips a hole at the position, where the next byte is zero. A writer that keeps its offset when its file is truncated
 * (copytruncate) leaves one. Returns READ_MORE after skipping bytes, READ_END if there is no data behind the hole yet,
 * and READ_FAILED, without a message, if there is no hole.
 */
static enum read_result skip_hole(struct reader *reader, bool whole) {
    off_t at = reader->offset;
    if (reader->content.compression == COMPRESSION_NONE) {
        off_t data = lseek(reader->content.file, at, SEEK_DATA);
        at = data < 0 && errno == ENXIO ? reader->limit : data > at ? data : at;
    }
    /* A copy of the file has zero bytes instead of the hole. */
    if (at == reader->offset && at != reader->hole_end) {
        return READ_FAILED;
    }
    /* The hole ends at the limit of a block. The bytes up to the writer's offset are zero too. */
    char block[4096];
    for (off_t stop = at + SKIP_BYTES; at < stop && at < reader->limit;) {
        off_t left = reader->limit - at;
        ssize_t count =
            content_read(&reader->content, block, left < (off_t)sizeof block ? (size_t)left : sizeof block, at);
        ssize_t zeros = 0;
        while (zeros < count && block[zeros] == '\0') {
            zeros++;
        }
        at += zeros;
        if (zeros == 0 || zeros < count) {
            break;
        }
    }
    if (at >= reader->limit) {
        reader->examined = reader->limit;
        if (!whole) {
            return READ_END;
        }
        at = reader->limit;
    }
    reader->hole_end = at;
    skip_to(reader, at, "a hole without data");
    return READ_MORE;
}

static enum read_result read_lines(struct reader *reader, const struct cut *cut, bool whole, char *buffer,
                                   size_t *budget, chanserv_frame_sink *sink, chanserv_status *failure,
                                   chanserv_error *error) {
    while (*budget > 0) {
        if (reader->scanned - reader->offset >= (off_t)BUFFER_SIZE) {
            enum read_result result = read_long_line(reader, cut, whole, buffer, budget, sink, failure, error);
            if (result != READ_MORE || reader->scanned > reader->offset) {
                return result;
            }
            continue;
        }
        ssize_t count = read_at(reader, buffer, BUFFER_SIZE, reader->offset);
        if (count < 0) {
            return read_failed(reader, errno, failure, error);
        }
        spend(budget, (size_t)count);
        const char *line = buffer, *limit = buffer + count;
        bool short_read = (size_t)count < BUFFER_SIZE;
        off_t begin = reader->offset;
        while (line < limit) {
            if (reader->followed && *line == '\0') {
                enum read_result hole = skip_hole(reader, whole);
                if (hole == READ_MORE) {
                    short_read = false;
                    line = NULL;
                    break;
                }
                if (hole == READ_END) {
                    return READ_END;
                }
            }
            const char *ending = memchr(line, '\n', (size_t)(limit - line));
            bool last = ending == NULL && whole && short_read && !reader->content.failed;
            if (ending == NULL && !last) {
                break;
            }
            size_t length = (size_t)((last ? limit : ending + 1) - line);
            chanserv_status status = sink->append(sink, line, stripped(cut, line, length));
            if (status != CHANSERV_READY) {
                return not_taken(reader, status, failure, error);
            }
            line += length;
            move_to(reader, begin + (line - buffer), line, (size_t)(line - buffer));
        }
        if (line == NULL) {
            continue;
        }
        if (short_read) {
            /* The end of the file. An incomplete line waits for its ending. */
            reader->scanned = reader->offset + (limit - line);
            if (reader->content.failed) {
                ssize_t more = content_read(&reader->content, buffer, 1, reader->scanned);
                if (more < 0) {
                    return read_failed(reader, errno, failure, error);
                }
            }
            return READ_END;
        }
        if (line == buffer) {
            reader->scanned = reader->offset + count;
        }
    }
    return READ_MORE;
}

/*
 * Reads a whole chunk into its own memory and lends that. It must not be a mapping of the file: if the file is
 * truncated, reading the mapping ends the host.
 */
static enum read_result lend_chunk(struct reader *reader, const struct cut *cut, size_t *budget,
                                   chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error) {
    char *chunk = malloc(cut->chunk_size);
    if (chunk == NULL) {
        return read_failed(reader, ENOMEM, failure, error);
    }
    ssize_t count = read_at(reader, chunk, cut->chunk_size, reader->offset);
    if (count <= 0) {
        int code = errno;
        free(chunk);
        return count == 0 ? READ_END : read_failed(reader, code, failure, error);
    }
    spend(budget, (size_t)count);
    char tail[ANCHOR_SIZE];
    size_t kept = (size_t)count < sizeof tail ? (size_t)count : sizeof tail;
    memcpy(tail, chunk + count - kept, kept);
    chanserv_status taken = sink->lend(sink, chunk, (size_t)count, free, chunk);
    if (taken != CHANSERV_READY) {
        free(chunk); /* not lent */
        return not_taken(reader, taken, failure, error);
    }
    move_to(reader, reader->offset + count, tail + kept, kept);
    return (size_t)count < cut->chunk_size ? READ_END : READ_MORE;
}

static enum read_result read_chunks(struct reader *reader, const struct cut *cut, bool whole, size_t *budget,
                                    chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error) {
    off_t size = reader->limit;
    if (reader->content.compression != COMPRESSION_NONE) {
        size = 0; /* unknown: chunks grow while they are filled */
    } else if (!reader->followed) {
        struct stat status;
        if (fstat(reader->content.file, &status) != 0) {
            return read_failed(reader, errno, failure, error);
        }
        size = status.st_size;
    }
    if (reader->followed && reader->hole_end == reader->offset) {
        char first = 1;
        ssize_t count = read_at(reader, &first, 1, reader->offset);
        if (count < 0) {
            return read_failed(reader, errno, failure, error);
        }
        if (count == 1 && first == '\0' && skip_hole(reader, whole) == READ_END) {
            return READ_END;
        }
    }
    while (*budget > 0) {
        /*
         * Reserves one byte more than the file should have, to detect its end at once. A small file does not reserve a
         * large chunk.
         */
        off_t left = size > reader->offset ? size - reader->offset : 0;
        size_t wanted = left < (off_t)cut->chunk_size ? (size_t)left + 1 : cut->chunk_size;
        if (reader->content.compression != COMPRESSION_NONE) {
            wanted = cut->chunk_size < BUFFER_SIZE ? cut->chunk_size : BUFFER_SIZE;
        }
        if (wanted == cut->chunk_size && wanted >= LENT_MIN && CHANSERV_HAS(sink, chanserv_frame_sink, lend)) {
            /* One chunk in each poll, because it is not known before reading whether there is room for another. */
            return lend_chunk(reader, cut, budget, sink, failure, error);
        }
        size_t filled = 0, capacity;
        char *room;
        for (;;) {
            room = sink->reserve(sink, wanted, &capacity);
            if (room == NULL) {
                return READ_MORE;
            }
            ssize_t count = read_at(reader, room + filled, wanted - filled, reader->offset + (off_t)filled);
            if (count < 0) {
                return read_failed(reader, errno, failure, error);
            }
            filled += (size_t)count;
            if (filled < wanted || wanted == cut->chunk_size) {
                break;
            }
            /* The file is growing. */
            wanted = wanted > cut->chunk_size / 2 ? cut->chunk_size : wanted * 2;
        }
        if (filled == 0) {
            return READ_END;
        }
        char tail[ANCHOR_SIZE];
        size_t kept = filled < sizeof tail ? filled : sizeof tail;
        memcpy(tail, room + filled - kept, kept);
        chanserv_status taken = sink->commit(sink, filled);
        if (taken != CHANSERV_READY) {
            return not_taken(reader, taken, failure, error);
        }
        move_to(reader, reader->offset + (off_t)filled, tail + kept, kept);
        spend(budget, filled);
        if (filled < cut->chunk_size) {
            return READ_END;
        }
    }
    return READ_MORE;
}

enum read_result reader_read(struct reader *reader, const struct cut *cut, bool whole, size_t *budget,
                             chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error) {
    if (!cut->lines) {
        return read_chunks(reader, cut, whole, budget, sink, failure, error);
    }
    char *buffer = malloc(BUFFER_SIZE);
    if (buffer == NULL) {
        return read_failed(reader, ENOMEM, failure, error);
    }
    enum read_result result = read_lines(reader, cut, whole, buffer, budget, sink, failure, error);
    free(buffer);
    return result;
}

chanserv_status reader_check_whole(struct reader *reader, chanserv_error *error) {
    off_t end = reader->scanned > reader->offset ? reader->scanned : reader->offset;
    struct identity now;
    if (identify(reader->content.file, &now) != 0) {
        return fail_errno(error, errno, "cannot be read", reader->path);
    }
    if (reader->content.compression != COMPRESSION_NONE) {
        char byte;
        chanserv_status failure = CHANSERV_READY;
        if (content_read(&reader->content, &byte, 1, end) < 0) {
            read_failed(reader, errno, &failure, error);
        }
        return failure;
    }
    /* Files that the kernel generates, for example in /proc, have a size of 0 and content nevertheless. */
    off_t expected = reader->is.size == 0 ? 0 : end;
    if (expected < reader->is.size) {
        expected = reader->is.size;
    }
    if (now.size < expected || reader->offset < reader->scanned) {
        return fail(error, CHANSERV_ERROR_NOT_FOUND, "%s: was truncated to %" PRIdMAX " bytes while it was read",
                    reader->path, (intmax_t)now.size);
    }
    return CHANSERV_READY;
}
