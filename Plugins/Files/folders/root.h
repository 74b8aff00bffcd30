/*
 * The folders whose files a request may read: the root, and the folders of `follow_links`. They are resolved again for
 * each request, because they may be symbolic links that are replaced (`current`).
 */
#ifndef FILES_ROOT_H
#define FILES_ROOT_H

#include "chanserv_plugin.h"
#include "folders/beneath.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

/* Maximum folders of `follow_links`. */
#define LINK_FOLDERS_MAX 64

/* The open folders. They never change. */
struct root {
    atomic_size_t references;
    int folder; /* of the root */
    struct identity is;
    size_t links;
    struct link_folder {
        int folder;  /* -1 if it does not exist */
        char *path;  /* without symbolic links */
    } link[];
};

/* The configured paths, and the folders that the last request used. */
struct roots {
    char *path;
    size_t links;
    char *link[LINK_FOLDERS_MAX];
    pthread_mutex_t lock;
    struct root *last;
};

/* Opens the folders. Returns NULL and a message, with *status, if the root cannot be opened. */
struct root *roots_open(struct roots *roots, chanserv_status *status, chanserv_error *error);
void roots_free(struct roots *roots);
struct root *root_keep(struct root *root);
void root_release(struct root *root);

/*
 * Opens `path` beneath the root like beneath_open. If the path has symbolic links and leads to a folder of
 * `follow_links`, opens the file there.
 */
int root_open(const struct root *root, const char *path, int flags);

/*
 * Finds the folder and the path beneath it, without symbolic links, at which `path` is now. `place` has PATH_MAX bytes.
 * Returns the folder's descriptor, which belongs to the root, or -1 and errno.
 */
int root_locate(const struct root *root, const char *path, char *place);

#endif
