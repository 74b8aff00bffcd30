/*
 * Opening what a path names beneath a folder, and nothing else: no `..`, no absolute path, no symbolic link anywhere in
 * it leads out, also where somebody replaces a folder by a link at the very moment.
 */
#ifndef FILES_BENEATH_H
#define FILES_BENEATH_H

#include <sys/stat.h>

/*
 * Opens `path` (relative; the empty one is the folder itself) beneath the folder `root`, with O_CLOEXEC, O_NOFOLLOW,
 * O_NOCTTY and O_NONBLOCK added to `flags`: opening a fifo that took a file's place must not wait for its writer.
 * Returns a descriptor, or -1 and errno: ELOOP, ENOTDIR or EXDEV where the path would have left the folder.
 */
int beneath_open(int root, const char *path, int flags);

/* What `path` is, without opening it for reading: 0, or -1 and errno as above. A symbolic link is ELOOP. */
int beneath_stat(int root, const char *path, struct stat *status);

#endif
