#include "following/generations/shared_file.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct shared_file *shared_new(int file) {
    struct shared_file *shared = malloc(sizeof *shared);
    if (shared == NULL) {
        close(file);
        errno = ENOMEM;
        return NULL;
    }
    atomic_init(&shared->references, 1);
    shared->file = file;
    return shared;
}

struct shared_file *shared_keep(struct shared_file *file) {
    atomic_fetch_add(&file->references, 1);
    return file;
}

void shared_release(struct shared_file *file) {
    if (file != NULL && atomic_fetch_sub(&file->references, 1) == 1) {
        close(file->file);
        free(file);
    }
}
