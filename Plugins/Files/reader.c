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

/* ---- Opening ---- */

static bool is_gone(int code) {
    return code == ENOENT || code == ENOTDIR || code == ELOOP || code == EXDEV || code == ENXIO;
}

enum open_result reader_open(struct reader *reader, int root) {
    int file = beneath_open(root, reader->path, O_RDONLY);
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
    reader->file = file;
    if (reader->known && is_same_file(&reader->is, &now)) {
        return OPEN_AGAIN;
    }
    enum open_result result = reader->known ? OPEN_OTHER : OPEN_NEW;
    reader->known = true;
    reader->is = now;
    reader->offset = reader->scanned = 0;
    return result;
}

void reader_close(struct reader *reader) {
    if (reader->file >= 0) {
        close(reader->file);
        reader->file = -1;
    }
}

void reader_restart(struct reader *reader) {
    reader->known = false;
    reader->offset = reader->scanned = 0;
}

off_t reader_end(const struct reader *reader) {
    return reader->scanned > reader->offset ? reader->scanned : reader->offset;
}

/* ---- Reading ---- */

/* Reads until `size` bytes are read or the file ends. Returns the number of bytes, or -1 and errno. */
static ssize_t read_at(int file, char *to, size_t size, off_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t count = pread(file, to + done, size - done, offset + (off_t)done);
        if (count == 0) {
            break;
        }
        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -1;
        }
        done += (size_t)count;
    }
    return (ssize_t)done;
}

static enum read_result read_failed(const struct reader *reader, int code, chanserv_status *failure,
                                    chanserv_error *error) {
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
    ssize_t count = read_at(reader->file, room, length, reader->offset);
    if (count < 0) {
        return read_failed(reader, errno, failure, error);
    }
    spend(budget, length);
    if ((size_t)count < length) {
        return READ_END; /* it was truncated meanwhile: reader_check_whole reports that */
    }
    chanserv_status status = sink->commit(sink, stripped(cut, room, length));
    if (status != CHANSERV_READY) {
        return not_taken(reader, status, failure, error);
    }
    reader->offset += (off_t)length;
    return READ_MORE;
}

/*
 * Searches for the end of a long line behind the bytes that were already searched, and sends the line when it is found.
 */
static enum read_result read_long_line(struct reader *reader, const struct cut *cut, bool whole, char *buffer,
                                       size_t *budget, chanserv_frame_sink *sink, chanserv_status *failure,
                                       chanserv_error *error) {
    while (*budget > 0) {
        ssize_t count = read_at(reader->file, buffer, BUFFER_SIZE, reader->scanned);
        if (count < 0) {
            return read_failed(reader, errno, failure, error);
        }
        spend(budget, (size_t)count);
        const char *ending = memchr(buffer, '\n', (size_t)count);
        size_t before = (size_t)(reader->scanned - reader->offset);
        size_t length = before + (ending != NULL ? (size_t)(ending + 1 - buffer) : (size_t)count);
        if (length > CHANSERV_FRAME_SIZE_MAX) {
            *failure = fail(error, CHANSERV_ERROR_BAD_REQUEST,
                            "%s: the line at byte %" PRIdMAX " is longer than 100 MiB, the limit of a frame; read this "
                            "file with `unit: chunks`",
                            reader->path, (intmax_t)reader->offset);
            return READ_FAILED;
        }
        if (ending != NULL || (count == 0 && whole && length > 0)) {
            return send_long_line(reader, cut, length, budget, sink, failure, error);
        }
        if (count == 0) {
            return READ_END;
        }
        reader->scanned += count;
    }
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
        ssize_t count = read_at(reader->file, buffer, BUFFER_SIZE, reader->offset);
        if (count < 0) {
            return read_failed(reader, errno, failure, error);
        }
        spend(budget, (size_t)count);
        const char *line = buffer, *limit = buffer + count;
        while (line < limit) {
            const char *ending = memchr(line, '\n', (size_t)(limit - line));
            bool last = ending == NULL && whole && (size_t)count < BUFFER_SIZE;
            if (ending == NULL && !last) {
                break;
            }
            size_t length = (size_t)((last ? limit : ending + 1) - line);
            chanserv_status status = sink->append(sink, line, stripped(cut, line, length));
            if (status != CHANSERV_READY) {
                return not_taken(reader, status, failure, error);
            }
            reader->offset += (off_t)length;
            line += length;
        }
        if ((size_t)count < BUFFER_SIZE) {
            /* The end of the file. An incomplete line waits for its ending. */
            reader->scanned = reader->offset + (limit - line);
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
    ssize_t count = read_at(reader->file, chunk, cut->chunk_size, reader->offset);
    if (count <= 0) {
        int code = errno;
        free(chunk);
        return count == 0 ? READ_END : read_failed(reader, code, failure, error);
    }
    spend(budget, (size_t)count);
    chanserv_status taken = sink->lend(sink, chunk, (size_t)count, free, chunk);
    if (taken != CHANSERV_READY) {
        free(chunk); /* not lent */
        return not_taken(reader, taken, failure, error);
    }
    reader->offset += count;
    return (size_t)count < cut->chunk_size ? READ_END : READ_MORE;
}

static enum read_result read_chunks(struct reader *reader, const struct cut *cut, size_t *budget,
                                    chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error) {
    struct stat status;
    if (fstat(reader->file, &status) != 0) {
        return read_failed(reader, errno, failure, error);
    }
    while (*budget > 0) {
        /*
         * Reserves one byte more than the file should have, to detect its end at once. A small file does not reserve a
         * large chunk.
         */
        off_t left = status.st_size > reader->offset ? status.st_size - reader->offset : 0;
        size_t wanted = left < (off_t)cut->chunk_size ? (size_t)left + 1 : cut->chunk_size;
        if (wanted == cut->chunk_size && wanted >= LENT_MIN && CHANSERV_HAS(sink, chanserv_frame_sink, lend)) {
            /* One chunk in each poll, because it is not known before reading whether there is room for another. */
            return lend_chunk(reader, cut, budget, sink, failure, error);
        }
        size_t filled = 0, capacity;
        for (;;) {
            char *room = sink->reserve(sink, wanted, &capacity);
            if (room == NULL) {
                return READ_MORE;
            }
            ssize_t count = read_at(reader->file, room + filled, wanted - filled, reader->offset + (off_t)filled);
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
        chanserv_status taken = sink->commit(sink, filled);
        if (taken != CHANSERV_READY) {
            return not_taken(reader, taken, failure, error);
        }
        reader->offset += (off_t)filled;
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
        return read_chunks(reader, cut, budget, sink, failure, error);
    }
    char *buffer = malloc(BUFFER_SIZE);
    if (buffer == NULL) {
        return read_failed(reader, ENOMEM, failure, error);
    }
    enum read_result result = read_lines(reader, cut, whole, buffer, budget, sink, failure, error);
    free(buffer);
    return result;
}

chanserv_status reader_check_whole(const struct reader *reader, chanserv_error *error) {
    struct identity now;
    if (identify(reader->file, &now) != 0) {
        return fail_errno(error, errno, "cannot be read", reader->path);
    }
    /* Files that the kernel generates, for example in /proc, have a size of 0 and content nevertheless. */
    off_t expected = reader->is.size == 0 ? 0 : reader_end(reader);
    if (expected < reader->is.size) {
        expected = reader->is.size;
    }
    if (now.size < expected || reader->offset < reader->scanned) {
        return fail(error, CHANSERV_ERROR_NOT_FOUND, "%s: was truncated to %" PRIdMAX " bytes while it was read",
                    reader->path, (intmax_t)now.size);
    }
    return CHANSERV_READY;
}

/* ---- Following ---- */

/*
 * Whether the process may open the file; its existence does not imply that. Other obstacles are reported by the next
 * open.
 */
static bool may_read(int root, const char *path) {
    int file = beneath_open(root, path, O_RDONLY);
    if (file < 0) {
        return errno != EACCES && errno != EPERM;
    }
    close(file);
    return true;
}

enum look_result reader_look(const struct reader *reader, int root) {
    off_t end = reader_end(reader);
    struct identity now;
    if (reader->file >= 0 && identify(reader->file, &now) == 0 && now.size != end) {
        return now.size > end ? LOOK_MORE : LOOK_TRUNCATED;
    }
    /* While its name refers to no readable file, the old file continues. */
    if (beneath_identify(root, reader->path, &now) != 0 || !S_ISREG(now.mode)) {
        return LOOK_SAME;
    }
    enum look_result result = LOOK_MORE;
    if (reader->known && !is_same_file(&reader->is, &now)) {
        /*
         * A process that rotates a log writes to the old file until it uses the new one. An empty new file is therefore
         * not used yet.
         */
        result = now.size > 0 ? LOOK_REPLACED : LOOK_SAME;
    } else if (reader->known) {
        result = now.size == end ? LOOK_SAME : now.size > end ? LOOK_MORE : LOOK_TRUNCATED;
    }
    bool opens = reader->file < 0 || result == LOOK_REPLACED;
    return result != LOOK_SAME && opens && !may_read(root, reader->path) ? LOOK_SAME : result;
}
