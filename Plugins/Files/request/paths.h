/* A set of paths of limited size. */
#ifndef FILES_PATHS_H
#define FILES_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#define PATHS_MAX 65536

struct paths {
    char **table; /* open addressing; the capacity is a power of two */
    size_t count, capacity;
};

enum paths_result { PATHS_ADDED, PATHS_FULL, PATHS_NO_MEMORY };

bool paths_have(const struct paths *paths, const char *path);
/* Adds a path that is not in the set. */
enum paths_result paths_add(struct paths *paths, const char *path);
void paths_free(struct paths *paths);

#endif
