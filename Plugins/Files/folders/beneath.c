#define _GNU_SOURCE
#include "folders/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(SYS_openat2) && __has_include(<linux/openat2.h>) && !defined(FILES_WITHOUT_OPENAT2)
#include <linux/openat2.h>
#define HAVE_OPENAT2 1
#else
#define HAVE_OPENAT2 0
#endif

#define ALWAYS (O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK)
/* O_PATH allows few other flags. openat ignores the rest, but openat2 refuses it. */
#define ALWAYS_WITH_PATH (O_CLOEXEC | O_NOFOLLOW)

/* For kernels before 5.6: opens one folder after the other, none of them through a link. */
static int open_stepwise(int root, const char *path, int flags) {
    int folder = root;
    for (;;) {
        const char *slash = strchr(path, '/');
        if (slash == NULL) {
            break;
        }
        char name[NAME_MAX + 1];
        size_t length = (size_t)(slash - path);
        if (length > NAME_MAX) {
            errno = ENAMETOOLONG;
            goto failed;
        }
        memcpy(name, path, length);
        name[length] = '\0';
        if (strcmp(name, "..") == 0) {
            errno = EXDEV;
            goto failed;
        }
        int next = openat(folder, length == 0 ? "." : name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0) {
            goto failed;
        }
        if (folder != root) {
            close(folder);
        }
        folder = next;
        path = slash + 1;
    }
    if (strcmp(path, "..") == 0) {
        errno = EXDEV;
        goto failed;
    }
    int opened = openat(folder, *path == '\0' ? "." : path, flags);
    int code = errno;
    if (folder != root) {
        close(folder);
    }
    errno = code;
    return opened;

failed:
    if (folder != root) {
        code = errno;
        close(folder);
        errno = code;
    }
    return -1;
}

int beneath_open(int root, const char *path, int flags) {
    flags |= (flags & O_PATH) != 0 ? ALWAYS_WITH_PATH : ALWAYS;
    if (*path == '/') {
        errno = EXDEV;
        return -1;
    }
#if HAVE_OPENAT2
    struct open_how how = {
        .flags = (unsigned)flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long opened = syscall(SYS_openat2, root, *path == '\0' ? "." : path, &how, sizeof how);
    /* A sandbox that does not know the system call returns EPERM. */
    if (opened >= 0 || (errno != ENOSYS && errno != EPERM)) {
        return (int)opened;
    }
#endif
    return open_stepwise(root, path, flags);
}

int identify(int file, struct identity *identity) {
    struct statx status;
    if (statx(file, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &status) != 0) {
        return -1;
    }
    bool born = (status.stx_mask & STATX_BTIME) != 0;
    *identity = (struct identity){
        .device = (uint64_t)status.stx_dev_major << 32 | status.stx_dev_minor,
        .inode = status.stx_ino,
        .born_seconds = born ? status.stx_btime.tv_sec : 0,
        .born_nanoseconds = born ? status.stx_btime.tv_nsec : 0,
        .changed = status.stx_mtime.tv_sec * INT64_C(1000000000) + status.stx_mtime.tv_nsec,
        .mode = status.stx_mode,
        .size = (off_t)status.stx_size,
    };
    return 0;
}

int beneath_identify(int root, const char *path, struct identity *identity) {
    int file = beneath_open(root, path, O_PATH);
    if (file < 0) {
        return -1;
    }
    int result = identify(file, identity);
    int code = errno;
    close(file);
    errno = code;
    if (result == 0 && S_ISLNK(identity->mode)) {
        errno = ELOOP;
        return -1;
    }
    return result;
}

bool is_same_file(const struct identity *one, const struct identity *other) {
    return one->device == other->device && one->inode == other->inode && one->born_seconds == other->born_seconds &&
           one->born_nanoseconds == other->born_nanoseconds;
}
