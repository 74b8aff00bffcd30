/*
 * Reads one file as frames. Between polls it keeps a position, but no bytes: each poll reads from the end of the last
 * frame that the sink took. So the memory does not depend on the size of the file, and a frame that the sink did not
 * take is not lost.
 */
#ifndef FILES_READER_H
#define FILES_READER_H

#include "beneath.h"
#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How a file is divided into frames. */
struct cut {
    bool lines;        /* true: lines; false: chunks */
    bool strip;        /* removes the \n or \r\n of lines */
    size_t chunk_size; /* in bytes */
};

struct reader {
    const char *path;
    int file;           /* descriptor; -1 while the file is not open */
    bool known;         /* the file was open before: the fields below are its identity and the position in it */
    struct identity is; /* its `size` is the size at the first open */
    off_t offset;       /* the position of the next frame */
    off_t scanned;      /* the next frame does not end before this position; no information if not above `offset` */
};

enum open_result {
    OPEN_NEW,   /* opened for the first time since reader_restart; the position is the beginning */
    OPEN_AGAIN, /* opened the same file as before; the position is unchanged */
    OPEN_OTHER, /* the name refers to another file now; that file is open, and the position is its beginning */
    OPEN_GONE,  /* there is no regular file with that name */
    OPEN_FAILED /* see errno */
};

enum read_result {
    READ_MORE,   /* the sink is full or the budget is used up */
    READ_END,    /* the current end of the file */
    READ_FAILED, /* an error; *failure and the message are set */
};

enum look_result {
    LOOK_SAME,      /* no change */
    LOOK_MORE,      /* the file has grown, or a missing file exists now */
    LOOK_TRUNCATED, /* the file is shorter than the part that was read */
    LOOK_REPLACED   /* the name refers to another file now, which is not empty */
};

/* Opens the file beneath `root`. */
enum open_result reader_open(struct reader *reader, int root);
/* Closes the file, if it is open. The position remains, so that reader_open can continue there. */
void reader_close(struct reader *reader);
/* Forgets the file, which must be closed. The next reader_open opens any file with its name. */
void reader_restart(struct reader *reader);
/* Returns the end of the part of the file that was read, in bytes. */
off_t reader_end(const struct reader *reader);

/*
 * Reads frames into the sink. With `whole`, the bytes after the last line ending are a frame too; otherwise they wait
 * for their line ending. *budget is the number of bytes that this poll may still read.
 */
enum read_result reader_read(struct reader *reader, const struct cut *cut, bool whole, size_t *budget,
                             chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error);

/* Called at the end of a file that is not followed. Returns an error if the file was truncated while it was read. */
chanserv_status reader_check_whole(const struct reader *reader, chanserv_error *error);

/* Checks for changes after the end of the file was reached. Does not change the reader. */
enum look_result reader_look(const struct reader *reader, int root);

#endif
