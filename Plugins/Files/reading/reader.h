/*
 * Reads a file as frames. Between polls it keeps only a position, no bytes. Each poll reads again from the end of the
 * last frame that was taken. So the memory does not depend on the size of the file, and a frame that did not fit is not
 * lost.
 */
#ifndef FILES_READER_H
#define FILES_READER_H

#include "chanserv_plugin.h"
#include "folders/beneath.h"
#include "reading/content.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How a file is split into frames. */
struct cut {
    bool lines;        /* otherwise chunks */
    bool strip;        /* removes the \n or \r\n of lines */
    size_t chunk_size; /* bytes */
};

/* Number of bytes by which a file is recognised: its first ones, and the last ones before a position. */
#define HEAD_SIZE 64
#define ANCHOR_SIZE 32

/* The bytes before a position. */
struct anchor {
    size_t size;
    char bytes[ANCHOR_SIZE];
};

/*
 * `offset` only moves to the end of a frame that the sink has taken, or of skipped bytes. What is searched, examined or
 * expected there, the other fields, is found again if it is lost.
 */
struct reader {
    const char *path;
    struct content content;
    bool known;         /* it was open before, so the fields below are valid */
    struct identity is; /* with its size when it was first opened */
    off_t offset;       /* position of the next frame */
    off_t scanned;      /* end of the bytes that contain no end of that frame; below `offset` if none were searched */

    /* Only for a file that is followed. */
    bool followed;
    off_t limit;    /* the bytes from here on are not read */
    off_t hole_end; /* zero bytes from here on are part of a hole that a truncation left; -1: none */
    off_t examined; /* end of the bytes that contain nothing to send yet */
    bool skipping;  /* inside a line that is too long */
    size_t head_size;
    char head[HEAD_SIZE]; /* the first bytes of the file */
    struct anchor anchor; /* the bytes before `offset` */
    /* Called when bytes are skipped. */
    void (*skipped)(struct reader *reader, off_t from, off_t size, const char *reason);
};

enum open_result {
    OPEN_NEW,   /* opened for the first time */
    OPEN_AGAIN, /* the same file as before */
    OPEN_OTHER, /* another file has the name now; that file is open */
    OPEN_GONE,  /* no regular file has the name */
    OPEN_FAILED /* errno has the reason */
};

enum read_result {
    READ_MORE,    /* the sink is full or the budget is used up */
    READ_END,     /* the current end of the file, or the limit */
    READ_CHANGED, /* a followed file was truncated and written again, so that the position has no meaning */
    READ_FAILED,  /* with a message */
};

/* Opens the file `name` beneath the folder `folder`. */
enum open_result reader_open(struct reader *reader, int folder, const char *name);
/* Closes the file if it is open. It can be opened again and continues at its position. */
void reader_close(struct reader *reader);

/* What one poll reads. */
struct reading {
    struct reader *reader;
    const struct cut *cut;
    bool whole;    /* the bytes behind the last line ending are a frame too; otherwise they wait for theirs */
    size_t budget; /* number of bytes that may still be read */
    chanserv_frame_sink *sink;
    chanserv_status failure; /* after READ_FAILED */
    chanserv_error *error;
};

/* Reads frames into the sink. */
enum read_result reader_read(struct reading *reading);

/*
 * Checks a file that is not followed at its end. Returns CHANSERV_READY, or an error if the file was truncated while it
 * was read.
 */
chanserv_status reader_check_whole(struct reader *reader, chanserv_error *error);

#endif
