/* A source: one file of a request. It is opened late, polled, possibly followed, and closed. */
#ifndef FILES_SOURCE_H
#define FILES_SOURCE_H

#include "folders/root.h"
#include "following/position.h"
#include "instance.h"

/* `inode` is that of the file that was found; 0 if there is none. Returns NULL if there is no memory. */
chanserv_source *source_new(chanserv_instance *files, struct root *root, const struct options *options,
                            const char *path, uint64_t inode);
/*
 * Finds the position at which the source begins. Returns CHANSERV_PENDING if it has to be called again, so that a call
 * reads little.
 */
chanserv_status source_prepare(chanserv_source *source);
const char *source_path(const chanserv_source *source);
/* Returns the position for the header. */
struct resume source_position(const chanserv_source *source);

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_close(chanserv_source *source);

#endif
