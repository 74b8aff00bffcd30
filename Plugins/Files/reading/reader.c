#define _GNU_SOURCE
#include "reading/reader.h"

#include "fail.h"
#include "reading/reader_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

ssize_t read_at(struct reader *reader, char *to, size_t size, off_t offset) {
    if (reader->followed) {
        off_t left = reader->limit > offset ? reader->limit - offset : 0;
        size = (off_t)size < left ? size : (size_t)left;
    }
    ssize_t count = content_read(&reader->content, to, size, offset);
    if (count < 0 || !reader->followed || reader->content.compression != COMPRESSION_NONE) {
        return count;
    }
    if ((size_t)count < size || !has_bytes(reader->content.file, reader->head, reader->head_size, 0) ||
        !has_bytes(reader->content.file, reader->anchor.bytes, reader->anchor.size,
                   reader->offset - (off_t)reader->anchor.size)) {
        errno = ESTALE;
        return -1;
    }
    return count;
}

enum read_result skip_hole(struct reader *reader, bool whole) {
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

enum read_result reader_read(struct reading *reading) {
    return reading->cut->lines ? read_lines(reading) : read_chunks(reading);
}

chanserv_status reader_check_whole(struct reader *reader, chanserv_error *error) {
    off_t end = reader->scanned > reader->offset ? reader->scanned : reader->offset;
    struct identity now;
    if (identify(reader->content.file, &now) != 0) {
        return fail_errno(error, errno, "cannot be read", reader->path);
    }
    if (reader->content.compression != COMPRESSION_NONE) {
        struct reading reading = {.reader = reader, .failure = CHANSERV_READY, .error = error};
        char byte;
        if (content_read(&reader->content, &byte, 1, end) < 0) {
            read_failed(&reading, errno);
        }
        return reading.failure;
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

/* ---- The position ---- */

struct anchor anchor_of(const char *bytes, size_t size) {
    struct anchor anchor = {.size = size < ANCHOR_SIZE ? size : ANCHOR_SIZE};
    memcpy(anchor.bytes, bytes + size - anchor.size, anchor.size);
    return anchor;
}

void move_to(struct reader *reader, off_t offset, const struct anchor *before) {
    reader->offset = offset;
    reader->anchor = *before;
}

void skip_to(struct reader *reader, off_t offset, const char *reason) {
    reader->skipped(reader, reader->offset, offset - reader->offset, reason);
    reader->offset = offset;
    reader->scanned = 0;
    reader->anchor.size = 0;
    reader->skipping = false;
}

void spend(struct reading *reading, size_t bytes) {
    reading->budget -= bytes < reading->budget ? bytes : reading->budget;
}

/* ---- Failures ---- */

enum read_result read_failed(struct reading *reading, int code) {
    const struct reader *reader = reading->reader;
    if (reader->followed && code == ESTALE) {
        return READ_CHANGED;
    }
    if (code == EBADMSG && reader->content.problem != NULL) {
        reading->failure = fail(reading->error, CHANSERV_ERROR_BAD_REQUEST, "%s: cannot be decompressed: %s",
                                reader->path, reader->content.problem);
    } else {
        reading->failure = fail_errno(reading->error, code, "cannot be read", reader->path);
    }
    return READ_FAILED;
}

enum read_result not_taken(struct reading *reading, chanserv_status status) {
    if (status == CHANSERV_FULL) {
        return READ_MORE;
    }
    reading->failure = fail(reading->error, CHANSERV_ERROR_INTERNAL,
                            "%s: the host refused the frame at byte %" PRIdMAX " (status %" PRId32 ")",
                            reading->reader->path, (intmax_t)reading->reader->offset, status);
    return READ_FAILED;
}
