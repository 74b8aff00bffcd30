#define _GNU_SOURCE
#include "reading/reader_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/*
 * Minimum size of chunks that are read into their own memory and lent to the host, in bytes. One such chunk fills a
 * batch of the host's default size. A poll reads only one, so that it does not read a chunk for which the batch has no
 * room.
 */
#define LENT_MIN ((size_t)65536)

/*
 * Reads a whole chunk into its own memory and lends that. It must not be a mapping of the file: if the file is
 * truncated, reading the mapping ends the host.
 */
static enum read_result lend_chunk(struct reading *reading) {
    struct reader *reader = reading->reader;
    char *chunk = malloc(reading->cut->chunk_size);
    if (chunk == NULL) {
        return read_failed(reading, ENOMEM);
    }
    ssize_t count = read_at(reader, chunk, reading->cut->chunk_size, reader->offset);
    if (count <= 0) {
        int code = errno;
        free(chunk);
        return count == 0 ? READ_END : read_failed(reading, code);
    }
    spend(reading, (size_t)count);
    struct anchor anchor = anchor_of(chunk, (size_t)count);
    chanserv_status taken = reading->sink->lend(reading->sink, chunk, (size_t)count, free, chunk);
    if (taken != CHANSERV_READY) {
        free(chunk); /* not lent */
        return not_taken(reading, taken);
    }
    move_to(reader, reader->offset + count, &anchor);
    return (size_t)count < reading->cut->chunk_size ? READ_END : READ_MORE;
}

/*
 * Reads a chunk into the sink. `wanted` is its expected size, and grows if the file does. Returns whether it was a full
 * chunk, after which another may follow; otherwise *result is the result of the poll.
 */
static bool send_chunk(struct reading *reading, size_t wanted, enum read_result *result) {
    struct reader *reader = reading->reader;
    size_t chunk_size = reading->cut->chunk_size, filled = 0, capacity;
    char *room;
    for (;;) {
        room = reading->sink->reserve(reading->sink, wanted, &capacity);
        if (room == NULL) {
            *result = READ_MORE;
            return false;
        }
        ssize_t count = read_at(reader, room + filled, wanted - filled, reader->offset + (off_t)filled);
        if (count < 0) {
            *result = read_failed(reading, errno);
            return false;
        }
        filled += (size_t)count;
        if (filled < wanted || wanted == chunk_size) {
            break;
        }
        wanted = wanted > chunk_size / 2 ? chunk_size : wanted * 2;
    }
    *result = READ_END;
    if (filled == 0) {
        return false;
    }
    struct anchor anchor = anchor_of(room, filled);
    chanserv_status taken = reading->sink->commit(reading->sink, filled);
    if (taken != CHANSERV_READY) {
        *result = not_taken(reading, taken);
        return false;
    }
    move_to(reader, reader->offset + (off_t)filled, &anchor);
    spend(reading, filled);
    return filled == chunk_size;
}

/* Determines the size that the file has now; 0 if it is not known. */
static bool find_size(struct reader *reader, off_t *size) {
    *size = 0;
    if (reader->content.compression != COMPRESSION_NONE) {
        return true; /* chunks grow while they are filled */
    }
    if (reader->followed) {
        *size = reader->limit;
        return true;
    }
    struct stat status;
    if (fstat(reader->content.file, &status) != 0) {
        return false;
    }
    *size = status.st_size;
    return true;
}

enum read_result read_chunks(struct reading *reading) {
    struct reader *reader = reading->reader;
    off_t size;
    if (!find_size(reader, &size)) {
        return read_failed(reading, errno);
    }
    if (reader->followed && reader->hole_end == reader->offset) {
        char first = 1;
        ssize_t count = read_at(reader, &first, 1, reader->offset);
        if (count < 0) {
            return read_failed(reading, errno);
        }
        if (count == 1 && first == '\0' && skip_hole(reader, reading->whole) == READ_END) {
            return READ_END;
        }
    }
    size_t chunk_size = reading->cut->chunk_size;
    while (reading->budget > 0) {
        /*
         * Reserves one byte more than the file should have, to detect its end at once. A small file does not reserve a
         * large chunk.
         */
        off_t left = size > reader->offset ? size - reader->offset : 0;
        size_t wanted = left < (off_t)chunk_size ? (size_t)left + 1 : chunk_size;
        if (reader->content.compression != COMPRESSION_NONE) {
            wanted = chunk_size < BUFFER_SIZE ? chunk_size : BUFFER_SIZE;
        }
        if (wanted == chunk_size && wanted >= LENT_MIN && CHANSERV_HAS(reading->sink, chanserv_frame_sink, lend)) {
            /* One chunk in each poll, because it is not known before reading whether there is room for another. */
            return lend_chunk(reading);
        }
        enum read_result result;
        if (!send_chunk(reading, wanted, &result)) {
            return result;
        }
    }
    return READ_MORE;
}
