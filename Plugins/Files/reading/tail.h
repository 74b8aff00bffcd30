/* The search for the position at which the last lines of a file begin. */
#ifndef FILES_TAIL_H
#define FILES_TAIL_H

#include "reading/reader.h"

/*
 * A plain file is searched backwards: `searched` is the end of what was not searched yet, and `lines` counts down. A
 * compressed file is read twice: first `lines` counts all lines, then it is negative and counts up to the last ones.
 */
struct tail {
    int64_t count; /* number of lines; -1: no search */
    bool begun, backwards;
    off_t searched, end;
    int64_t lines;
};

/*
 * Continues the search in the open file, which has `end` bytes when it begins, and sets reader->offset when it is done.
 * `whole_lines`: a search for no lines ends behind the last line ending, otherwise at the end. Returns CHANSERV_READY
 * when it is done, CHANSERV_PENDING after a bounded number of bytes, or an error.
 */
chanserv_status tail_search(struct tail *tail, struct reader *reader, off_t end, bool whole_lines,
                            chanserv_error *error);

#endif
