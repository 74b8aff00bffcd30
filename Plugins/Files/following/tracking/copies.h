/*
 * New files in the folder that may be copies of the followed one (copytruncate). A copy is told apart by its first
 * bytes. The content of a truncated generation continues in its copy.
 */
#ifndef FILES_COPIES_H
#define FILES_COPIES_H

#include "following/tracking/tracker.h"

/* Opens the copies that events have announced, and reads their first bytes. */
void copies_identify(struct tracker *tracker);
/*
 * Identifies all copies that exist by now. Renaming a copy again and again may prevent that for a moment, because it
 * has to be opened between two of them.
 */
void copies_settle(struct tracker *tracker);
/* Finds the copy of a truncated file, in which its generation continues. Returns false if there is none. */
bool copies_adopt(struct tracker *tracker, struct generation *generation);
/*
 * The first bytes of a file are found. If it was truncated before that was noticed, copies exist of what it had before.
 * Inserts them before it. Returns whether there were any.
 */
bool copies_insert_missed(struct tracker *tracker, size_t index, const char *head, size_t head_size);
/*
 * Few first bytes do not tell two contents apart. If a copy begins with them and continues differently, the file was
 * truncated after the copy was made.
 */
bool copies_have_other(struct tracker *tracker, const struct generation *generation, const char *head,
                       size_t head_size);
/* Drops the oldest copies, so that there is room for new ones. */
void copies_limit(struct tracker *tracker);
/* Drops the copies that are no longer needed. Called in every interval. */
void copies_tick(struct tracker *tracker);

#endif
