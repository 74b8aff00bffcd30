/*
 * Opens files strictly beneath a folder. No `..`, absolute path or symbolic link can lead out of it, even if another
 * process replaces a folder with a link at the same time.
 */
#ifndef FILES_BENEATH_H
#define FILES_BENEATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The identity, type and size of a file. */
struct identity {
    uint64_t device, inode;
    /* The creation time; 0 if the file system does not have it. It is needed because inode numbers are reused. */
    int64_t born_seconds;
    uint32_t born_nanoseconds;
    mode_t mode;
    off_t size;
};

/*
 * Opens `path` beneath the folder `root`. The path is relative; an empty path is the folder itself. Adds O_CLOEXEC and
 * O_NOFOLLOW to `flags`, and without O_PATH also O_NOCTTY and O_NONBLOCK: if a fifo has replaced a file, the open must
 * not wait for a writer. Returns a descriptor, or -1 and errno: ELOOP, ENOTDIR or EXDEV if the path has a symbolic link
 * or would leave the folder.
 */
int beneath_open(int root, const char *path, int flags);

/* Gets the identity of the open file `file`. Returns 0, or -1 and errno. */
int identify(int file, struct identity *identity);

/*
 * Gets the identity of `path` without opening it for reading. Returns 0, or -1 and errno as beneath_open; ELOOP for a
 * symbolic link.
 */
int beneath_identify(int root, const char *path, struct identity *identity);

/* Returns whether both identities have the same device, inode and creation time. */
bool is_same_file(const struct identity *one, const struct identity *other);

#endif
