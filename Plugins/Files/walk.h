/*
 * A walk through the folders beneath a root. It finds the files that match the patterns of a request, in sorted order,
 * each once. The caller runs it step by step. Between steps it keeps the names still to visit and at most one
 * descriptor.
 */
#ifndef FILES_WALK_H
#define FILES_WALK_H

#include "chanserv_plugin.h"
#include "glob.h"

#include <sys/stat.h>

struct walk;

enum walk_result {
    WALK_FILE,  /* a matching regular file: *path is valid until the next step */
    WALK_STEP,  /* progress, but no file */
    WALK_END,   /* there are no more files */
    WALK_FAILED /* an error; *failure and the message are set */
};

/*
 * Begins a walk. It takes ownership of the patterns, even if it fails. The caller keeps `root` open until walk_free.
 * Returns NULL if there is no memory.
 */
struct walk *walk_new(int root, struct globs *globs, const chanserv_host *host);
void walk_free(struct walk *walk);

/* Performs one step of limited duration: a few system calls, or up to 64 entries of a folder. */
enum walk_result walk_step(struct walk *walk, const char **path, struct stat *status, chanserv_status *failure,
                           chanserv_error *error);
/* Closes the descriptor, unless it is the listing of a folder. The caller calls it at the end of each poll. */
void walk_rest(struct walk *walk);

#endif
