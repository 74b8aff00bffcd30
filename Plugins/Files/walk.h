/*
 * A walk through the folders beneath a root that finds the files a request's patterns match, in sorted order, each
 * once, a few steps at a time. Between steps it keeps the names it still has to visit and at most one descriptor.
 */
#ifndef FILES_WALK_H
#define FILES_WALK_H

#include "chanserv_plugin.h"
#include "glob.h"

#include <sys/stat.h>

struct walk;

enum walk_result {
    WALK_FILE,  /* a matching regular file: *path is valid until the next step */
    WALK_STEP,  /* a step further, no file */
    WALK_END,   /* there are no more */
    WALK_FAILED /* with a message */
};

/* Begins a walk, which takes over the patterns in any case; `root` stays the caller's. NULL: there is no memory. */
struct walk *walk_new(int root, struct globs *globs, const chanserv_host *host);
void walk_free(struct walk *walk);

/* One bounded step: at most a few system calls. */
enum walk_result walk_step(struct walk *walk, const char **path, struct stat *status, chanserv_status *failure,
                           chanserv_error *error);
/* Between polls: gives back the descriptor, unless a folder is being listed. */
void walk_rest(struct walk *walk);

#endif
