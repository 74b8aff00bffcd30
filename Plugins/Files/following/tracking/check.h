/* Looks at the file of a generation that has not ended: it has grown, was truncated, or has ended. */
#ifndef FILES_CHECK_H
#define FILES_CHECK_H

#include "following/tracking/tracker.h"

/* Looks at the file of the generation at `index`. Returns whether the list has changed. */
bool check_generation(struct tracker *tracker, size_t index);

#endif
