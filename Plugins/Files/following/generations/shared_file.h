/* A file that is open, shared by the tracker and the sources that read it. The last reference closes it. */
#ifndef FILES_SHARED_FILE_H
#define FILES_SHARED_FILE_H

#include <stdatomic.h>

struct shared_file {
    atomic_size_t references;
    int file;
};

/* Takes the descriptor and returns the first reference. Without memory closes it and returns NULL and errno. */
struct shared_file *shared_new(int file);
struct shared_file *shared_keep(struct shared_file *file);
/* Gives a reference back. NULL is ignored. */
void shared_release(struct shared_file *file);

#endif
