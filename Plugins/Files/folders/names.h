/*
 * The names that were found in a folder, taken out in the order of their bytes. It is a heap, so that neither adding
 * nor taking a name takes long. Sorting a million names at once would block a thread of the host.
 */
#ifndef FILES_NAMES_H
#define FILES_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct names {
    char **heap;
    size_t count, capacity;
};

/* Adds a copy of a name. Returns false if there is no memory. */
bool names_add(struct names *names, const char *name);
/* Takes out the first name and all equal ones. The caller frees it. Returns NULL if there is none. */
char *names_take(struct names *names);
void names_free(struct names *names);

#endif
