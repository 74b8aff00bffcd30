/*
 * A walk through the folders beneath a root. It finds the files that match the patterns of a request, in sorted order,
 * each once, a few steps at a time. Between steps it keeps the names that it has not visited and at most one
 * descriptor.
 */
#ifndef FILES_WALK_H
#define FILES_WALK_H

#include "chanserv_plugin.h"
#include "folders/root.h"
#include "patterns/glob.h"

#include <sys/stat.h>

struct walk;

enum walk_result {
    WALK_FILE,  /* found a matching regular file: *path is valid until the next step */
    WALK_STEP,  /* made a step and found no file */
    WALK_END,   /* there are no more files */
    WALK_FAILED /* with a message */
};

/* Called with each folder that the walk enters: its descriptor is valid during the call. */
typedef void walk_entered(void *context, int folder);

/* The patterns and the root stay with the caller. Returns NULL if there is no memory. */
struct walk *walk_new(struct root *root, const struct globs *globs, const struct globs *excluded,
                      const chanserv_host *host);
/* Begins again at the root. `entered` may be NULL. */
void walk_begin(struct walk *walk, walk_entered *entered, void *context);
void walk_free(struct walk *walk);

/* Makes one bounded step of at most a few system calls. */
enum walk_result walk_step(struct walk *walk, const char **path, struct stat *status, chanserv_status *failure,
                           chanserv_error *error);
/*
 * Returns the first symbolic link that the walk left out although it matches, or would have entered; NULL if there was
 * none. *count is the number of links.
 */
const char *walk_left_out(const struct walk *walk, size_t *count);
/* Called between polls. Closes the descriptor, unless a folder is being listed. */
void walk_rest(struct walk *walk);

#endif
