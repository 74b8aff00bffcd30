/*
 * Reading one file as frames. What is kept between polls is a position, never bytes: each poll reads again from where
 * the last frame that was taken ends. So a file of any size costs the same, and a frame that did not fit is not lost.
 */
#ifndef FILES_READER_H
#define FILES_READER_H

#include "beneath.h"
#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* How frames are cut. */
struct cut {
    bool lines;        /* else chunks */
    bool strip;        /* lines lose their \n or \r\n */
    size_t chunk_size; /* bytes */
};

struct reader {
    const char *path;
    int file;           /* -1 while it is not open */
    bool known;         /* it was open before: the fields below say which file it was and where in it we are */
    struct identity is; /* with its size when it was opened first */
    off_t offset;       /* where the next frame begins */
    off_t scanned;      /* where it was found not to end before; below `offset` where nothing was */
};

enum open_result {
    OPEN_NEW,   /* opened for the first time since reader_restart: it begins at its beginning */
    OPEN_AGAIN, /* the file it was before */
    OPEN_OTHER, /* its name means another file now; this one is open, at its beginning */
    OPEN_GONE,  /* there is no regular file of that name */
    OPEN_FAILED /* errno says why */
};

enum read_result {
    READ_MORE,   /* the sink is full or the budget used up */
    READ_END,    /* the end of the file, for now */
    READ_FAILED, /* with a message */
};

enum look_result {
    LOOK_SAME,      /* nothing new */
    LOOK_MORE,      /* it has grown, or there is a file at last */
    LOOK_TRUNCATED, /* it is shorter than what was read of it */
    LOOK_REPLACED   /* its name means another file now, and there is something in it */
};

/* Opens the file beneath `root`. */
enum open_result reader_open(struct reader *reader, int root);
/* Closes it, if it is open. It can be opened again and goes on where it was. */
void reader_close(struct reader *reader);
/* Forgets the file, which must be closed, and starts with what has its name. */
void reader_restart(struct reader *reader);
/* What was seen of the file ends here. */
off_t reader_end(const struct reader *reader);

/*
 * Reads frames into the sink. `whole`: what stands behind the last line ending is a frame too; otherwise it waits for
 * its ending. *budget is the bytes that may still be read in this poll.
 */
enum read_result reader_read(struct reader *reader, const struct cut *cut, bool whole, size_t *budget,
                             chanserv_frame_sink *sink, chanserv_status *failure, chanserv_error *error);

/* At the end of a file that is not followed: CHANSERV_READY, or an error where it was cut short while it was read. */
chanserv_status reader_check_whole(const struct reader *reader, chanserv_error *error);

/* Whether a file at its end has anything new. Changes nothing. */
enum look_result reader_look(const struct reader *reader, int root);

#endif
