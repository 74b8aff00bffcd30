#define _GNU_SOURCE
#include "folders/root.h"

#include "fail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct root *open_folders(const struct roots *roots, chanserv_status *status, chanserv_error *error) {
    struct root *root = calloc(1, sizeof *root + roots->links * sizeof *root->link);
    if (root == NULL) {
        *status = fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
        return NULL;
    }
    atomic_store(&root->references, 1);
    root->folder = open(roots->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root->folder < 0 || identify(root->folder, &root->is) != 0) {
        fail_errno(error, errno, "cannot open the root folder", roots->path);
        /* Another host may have the folder, or this one later. */
        *status = CHANSERV_ERROR_BUSY;
        root_release(root);
        return NULL;
    }
    for (; root->links < roots->links; root->links++) {
        struct link_folder *link = &root->link[root->links];
        link->folder = open(roots->link[root->links], O_PATH | O_DIRECTORY | O_CLOEXEC);
        link->path = link->folder < 0 ? NULL : realpath(roots->link[root->links], NULL);
    }
    return root;
}

/* Whether both are the same folders at the same places. */
static bool is_same(const struct root *one, const struct root *other) {
    if (!is_same_file(&one->is, &other->is)) {
        return false;
    }
    for (size_t i = 0; i < one->links; i++) {
        const struct link_folder *a = &one->link[i], *b = &other->link[i];
        struct identity first, second;
        if ((a->folder < 0) != (b->folder < 0) || (a->path == NULL) != (b->path == NULL)) {
            return false;
        }
        if (a->folder >= 0 && (identify(a->folder, &first) != 0 || identify(b->folder, &second) != 0 ||
                               !is_same_file(&first, &second))) {
            return false;
        }
        if (a->path != NULL && strcmp(a->path, b->path) != 0) {
            return false;
        }
    }
    return true;
}

struct root *roots_open(struct roots *roots, chanserv_status *status, chanserv_error *error) {
    struct root *root = open_folders(roots, status, error);
    if (root == NULL) {
        return NULL;
    }
    /* Requests share the descriptors as long as the folders are the same. */
    pthread_mutex_lock(&roots->lock);
    struct root *unused = root;
    if (roots->last != NULL && is_same(root, roots->last)) {
        root = root_keep(roots->last);
    } else {
        unused = roots->last;
        roots->last = root_keep(root);
    }
    pthread_mutex_unlock(&roots->lock);
    if (unused != NULL) {
        root_release(unused);
    }
    return root;
}

void roots_free(struct roots *roots) {
    if (roots->last != NULL) {
        root_release(roots->last);
    }
    free(roots->path);
    for (size_t i = 0; i < roots->links; i++) {
        free(roots->link[i]);
    }
    pthread_mutex_destroy(&roots->lock);
}

struct root *root_keep(struct root *root) {
    atomic_fetch_add(&root->references, 1);
    return root;
}

void root_release(struct root *root) {
    if (atomic_fetch_sub(&root->references, 1) != 1) {
        return;
    }
    if (root->folder >= 0) {
        close(root->folder);
    }
    for (size_t i = 0; i < root->links; i++) {
        if (root->link[i].folder >= 0) {
            close(root->link[i].folder);
        }
        free(root->link[i].path);
    }
    free(root);
}

/* Returns the rest of `path` if it is beneath `folder`; otherwise NULL. */
static const char *rest_beneath(const char *path, const char *folder) {
    size_t length = strlen(folder);
    if (length == 1) {
        return path + 1; /* the root of the file system */
    }
    return strncmp(path, folder, length) == 0 && path[length] == '/' ? path + length + 1
           : strcmp(path, folder) == 0                              ? path + length
                                                                    : NULL;
}

/* Resolves `path`, which has symbolic links. Only what is opened afterwards, without any link, has to be safe. */
static int resolve(const struct root *root, const char *path, char *place) {
    char *full, *real;
    if (asprintf(&full, "/proc/self/fd/%d/%s", root->folder, path) < 0) {
        errno = ENOMEM;
        return -1;
    }
    real = realpath(full, NULL);
    int code = errno;
    free(full);
    if (real == NULL) {
        errno = code;
        return -1;
    }
    int folder = -1;
    for (size_t i = 0; i < root->links && folder < 0; i++) {
        const char *rest = root->link[i].path != NULL ? rest_beneath(real, root->link[i].path) : NULL;
        if (rest != NULL && strlen(rest) < PATH_MAX) {
            folder = root->link[i].folder;
            strcpy(place, rest);
        }
    }
    free(real);
    errno = ELOOP;
    return folder;
}

int root_locate(const struct root *root, const char *path, char *place) {
    if (strlen(path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(place, path);
    if (root->links == 0) {
        return root->folder;
    }
    struct identity now;
    if (beneath_identify(root->folder, path, &now) == 0) {
        return root->folder;
    }
    if (errno == ENOENT) {
        /* The file may be absent for a moment. Its folder may still be behind a link. */
        char *slash = strrchr(place, '/');
        if (slash == NULL) {
            return root->folder;
        }
        *slash = '\0';
        if (beneath_identify(root->folder, place, &now) == 0) {
            *slash = '/';
            return root->folder;
        }
        char folder[PATH_MAX];
        int base = resolve(root, place, folder);
        if (base >= 0 && snprintf(place, PATH_MAX, "%s%s%s", folder, *folder == '\0' ? "" : "/",
                                  path + (slash - place) + 1) < PATH_MAX) {
            return base;
        }
        errno = ENOENT;
        return -1;
    }
    return resolve(root, path, place);
}

int root_open(const struct root *root, const char *path, int flags) {
    int file = beneath_open(root->folder, path, flags);
    bool is_link = false;
    if (file >= 0 && (flags & O_PATH) != 0 && root->links > 0) {
        struct identity now;
        is_link = identify(file, &now) == 0 && S_ISLNK(now.mode);
    }
    if ((file >= 0 && !is_link) || root->links == 0 ||
        (file < 0 && errno != ELOOP && errno != ENOTDIR && errno != EXDEV)) {
        return file;
    }
    if (file >= 0) {
        close(file);
    }
    char place[PATH_MAX];
    int folder = resolve(root, path, place);
    return folder < 0 ? -1 : beneath_open(folder, place, flags);
}
