/*
 * Opens files beneath a folder. The path cannot lead out of the folder: not through `..`, not as an absolute path, and
 * not through a symbolic link, even if another process replaces a folder by a link at the same time.
 */
#ifndef FILES_BENEATH_H
#define FILES_BENEATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The identity and type of a file. */
struct identity {
    uint64_t device, inode;
    /* The creation time, if the file system provides it. Inode numbers of removed files are reused, often at once. */
    int64_t born_seconds;
    uint32_t born_nanoseconds;
    int64_t changed; /* time of the last write, in nanoseconds */
    mode_t mode;
    off_t size;
};

/*
 * Opens `path` beneath the folder `root`. The path is relative; the empty path is the folder itself. Adds O_CLOEXEC and
 * O_NOFOLLOW to `flags`, and without O_PATH also O_NOCTTY and O_NONBLOCK, so that opening a fifo that replaced a file
 * does not wait for a writer. Returns a descriptor, or -1 and errno: ELOOP, ENOTDIR or EXDEV if the path has a symbolic
 * link or would have left the folder.
 */
int beneath_open(int root, const char *path, int flags);

/* Returns the identity of the open file `file`: 0, or -1 and errno. */
int identify(int file, struct identity *identity);

/*
 * Returns the identity of the file at `path` without opening it for reading: 0, or -1 and errno as above. A symbolic
 * link is ELOOP.
 */
int beneath_identify(int root, const char *path, struct identity *identity);

bool is_same_file(const struct identity *one, const struct identity *other);

#endif
