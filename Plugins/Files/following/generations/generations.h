/* The list of the generations of a tracker, and which of them are kept, open and remembered. */
#ifndef FILES_GENERATIONS_H
#define FILES_GENERATIONS_H

#include "following/tracking/tracker.h"

/* Number of generations and possible copies. */
size_t tracker_members(const struct tracker *tracker);
/* Returns the member `index`: the generations, and then the copies, newest first. */
struct generation *tracker_member(const struct tracker *tracker, size_t index);

/* Returns a new generation that is in no list; NULL if there is no memory. */
struct generation *generations_new(struct tracker *tracker, const char *name);
/* Inserts a new generation. Returns NULL, and counts a lost file, if there is no memory. */
struct generation *generations_insert(struct tracker *tracker, size_t index, const char *name);
void generations_drop(struct tracker *tracker, size_t index);
void generations_drop_copy(struct tracker *tracker, size_t index);

/*
 * Keeps the file open if the limit allows it. Files that no follower needs any more give way. Takes the reference.
 */
void generations_keep_open(struct tracker *tracker, struct generation *generation, struct shared_file *file);
/* Makes `generation` an ended generation with the content of a rotated file. Takes the reference. */
void generations_set_ended(struct tracker *tracker, struct generation *generation, struct shared_file *file,
                          const struct identity *is, const char *name, enum compression compression);
/* Ends the generation with its known size. */
void generations_seal(struct tracker *tracker, struct generation *generation);
/* The followers that are at `from` continue at the beginning of `to`. */
void generations_move_followers(struct tracker *tracker, const struct generation *from, struct generation *to);

/* Forgets generations that no follower needs and that are older than the window. */
void generations_forget(struct tracker *tracker);

#endif
