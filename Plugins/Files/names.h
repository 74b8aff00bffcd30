/*
 * The names found in a folder, sorted by their bytes. They are a heap, so that adding or taking a name is fast for any
 * number of names. Sorting a million names at once would block a thread of the host.
 */
#ifndef FILES_NAMES_H
#define FILES_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct names {
    char **heap;
    size_t count, capacity;
};

/* Adds a copy of the name. Returns false if there is no memory. */
bool names_add(struct names *names, const char *name);
/* Removes the first name and its duplicates. Returns the name, which the caller frees; NULL if there is none. */
char *names_take(struct names *names);
void names_free(struct names *names);

#endif
