/*
 * The names found in a folder, which come out sorted by their bytes. A heap, so that neither putting one in nor taking
 * one out takes long, however many there are: sorting a million names at once would hold up a thread of the host.
 */
#ifndef FILES_NAMES_H
#define FILES_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct names {
    char **heap;
    size_t count, capacity;
};

/* Adds a copy. False where there is no memory. */
bool names_add(struct names *names, const char *name);
/* Takes the first name out, with all that equal it, for the caller to free; NULL when there is none. */
char *names_take(struct names *names);
void names_free(struct names *names);

#endif
