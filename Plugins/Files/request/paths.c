#define _GNU_SOURCE
#include "request/paths.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Returns the index of the path, or of the free place for it. */
static size_t place(char *const *table, size_t capacity, const char *path) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const char *at = path; *at != '\0'; at++) {
        hash = (hash ^ (unsigned char)*at) * UINT64_C(1099511628211);
    }
    size_t index = (size_t)(hash ^ hash >> 32) & (capacity - 1);
    while (table[index] != NULL && strcmp(table[index], path) != 0) {
        index = (index + 1) & (capacity - 1);
    }
    return index;
}

bool paths_have(const struct paths *paths, const char *path) {
    return paths->capacity > 0 && paths->table[place(paths->table, paths->capacity, path)] != NULL;
}

enum paths_result paths_add(struct paths *paths, const char *path) {
    if (paths->count == PATHS_MAX) {
        return PATHS_FULL;
    }
    if (paths->count * 2 >= paths->capacity) {
        size_t capacity = paths->capacity == 0 ? 64 : paths->capacity * 2;
        char **table = calloc(capacity, sizeof *table);
        if (table == NULL) {
            return PATHS_NO_MEMORY;
        }
        for (size_t i = 0; i < paths->capacity; i++) {
            if (paths->table[i] != NULL) {
                table[place(table, capacity, paths->table[i])] = paths->table[i];
            }
        }
        free(paths->table);
        paths->table = table;
        paths->capacity = capacity;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return PATHS_NO_MEMORY;
    }
    paths->table[place(paths->table, paths->capacity, path)] = copy;
    paths->count++;
    return PATHS_ADDED;
}

void paths_free(struct paths *paths) {
    for (size_t i = 0; i < paths->capacity; i++) {
        free(paths->table[i]);
    }
    free(paths->table);
    *paths = (struct paths){0};
}
