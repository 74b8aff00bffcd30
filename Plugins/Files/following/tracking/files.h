/* The files of a tracker in its folder: they are opened by a name, and recognised by their identity or first bytes. */
#ifndef FILES_FILES_H
#define FILES_FILES_H

#include "following/tracking/tracker.h"

/* Returns the identity of a regular file in the tracker's folder without opening it for reading. */
bool files_identify(const struct tracker *tracker, const char *name, struct identity *is);
/* Opens a regular file in the tracker's folder. Returns NULL and errno. */
struct shared_file *files_open(const struct tracker *tracker, const char *name, struct identity *is);
/*
 * Opens a generation or possible copy that events have reported. Returns false if it has to be given up. Processes the
 * reports that have come meanwhile.
 */
bool files_identify_new(struct tracker *tracker, struct generation *generation, bool is_copy);

#endif
