/*
 * Reads a file as frames. Between polls it keeps only a position, no bytes. Each poll reads again from the end of the
 * last frame that was taken. So the memory does not depend on the size of the file, and a frame that did not fit is not
 * lost.
 */
#ifndef FILES_READER_H
#define FILES_READER_H

#include "beneath.h"
#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How a file is split into frames. */
struct cut {
    bool lines;        /* otherwise chunks */
    bool strip;        /* removes the \n or \r\n of lines */
    size_t chunk_size; /* bytes */
};

struct reader {
    const char *path;
    int file;           /* -1 if it is not open */
    bool known;         /* it was open before, so the fields below are valid */
    struct identity is; /* with its size when it was first opened */
    off_t offset;       /* position of the next frame */
    off_t scanned;      /* end of the bytes that contain no end of that frame; below `offset` if none were searched */
};

enum open_result {
    OPEN_NEW,   /* opened for the first time since reader_restart, at its beginning */
    OPEN_AGAIN, /* the same file as before */
    OPEN_OTHER, /* another file has the name now; that file is open, at its beginning */
    OPEN_GONE,  /* no regular file has the name */
    OPEN_FAILED /* errno has the reason */
};

enum read_result {
    READ_MORE,   /* the sink is full or the budget is used up */
    READ_END,    /* the current end of the file */
    READ_FAILED, /* with a message */
};

enum look_result {
    LOOK_SAME,      /* no change */
    LOOK_MORE,      /* the file has grown, or exists now */
    LOOK_TRUNCATED, /* the file is shorter than the part that was read */
    LOOK_REPLACED   /* another file that is not empty has the name now */
};

/* Opens the file beneath `root`. */
enum open_result reader_open(struct reader *reader, int root);
/* Closes the file if it is open. It can be opened again and continues at its position. */
void reader_close(struct reader *reader);
/* Forgets the file, which must be closed. The next open starts with the file that has the name then. */
void reader_restart(struct reader *reader);
/* Returns the end of the part of the file that was examined. */
off_t reader_end(const struct reader *reader);

/*
 * Reads frames into the sink. If `whole` is true, the bytes behind the last line ending are a frame too; otherwise they
 * wait for their line ending. *budget is the number of bytes that this poll may still read.
 */
enum read_result reader_read(struct reader *reader, const struct cut *cut, bool whole, size_t *budget,
                             chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error);

/*
 * Checks a file that is not followed at its end. Returns CHANSERV_READY, or an error if the file was truncated while it
 * was read.
 */
chanserv_status reader_check_whole(const struct reader *reader, chanserv_error *error);

/* Returns whether there is anything new for a file at its end. Changes nothing. */
enum look_result reader_look(const struct reader *reader, int root);

#endif
