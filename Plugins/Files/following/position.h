/* A position in a followed path. */
#ifndef FILES_POSITION_H
#define FILES_POSITION_H

#include <stdint.h>
#include <sys/types.h>

/* A position in a followed path, from the header of a source and the bytes that a client has read. */
struct resume {
    char *path;
    uint64_t inode;
    off_t offset;
    uint64_t stream, number; /* the tracker and the generation; 0: unknown */
};

#endif
