/*
 * Opening what a path names beneath a folder, and nothing else: no `..`, no absolute path, no symbolic link anywhere in
 * it leads out, also where somebody replaces a folder by a link at the very moment.
 */
#ifndef FILES_BENEATH_H
#define FILES_BENEATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a file is, and which. */
struct identity {
    uint64_t device, inode;
    /* When it was made, where the file system says so: numbers of removed files are used again, often at once. */
    int64_t born_seconds;
    uint32_t born_nanoseconds;
    mode_t mode;
    off_t size;
};

/*
 * Opens `path` (relative; the empty one is the folder itself) beneath the folder `root`, with O_CLOEXEC, O_NOFOLLOW,
 * O_NOCTTY and O_NONBLOCK added to `flags`: opening a fifo that took a file's place must not wait for its writer.
 * Returns a descriptor, or -1 and errno: ELOOP, ENOTDIR or EXDEV where the path would have left the folder.
 */
int beneath_open(int root, const char *path, int flags);

/* What is open as `file`: 0, or -1 and errno. */
int identify(int file, struct identity *identity);

/* What `path` is, without opening it for reading: 0, or -1 and errno as above. A symbolic link is ELOOP. */
int beneath_identify(int root, const char *path, struct identity *identity);

bool is_same_file(const struct identity *one, const struct identity *other);

#endif
