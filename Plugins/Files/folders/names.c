#define _GNU_SOURCE
#include "folders/names.h"

#include <stdlib.h>
#include <string.h>

bool names_add(struct names *names, const char *name) {
    if (names->count == names->capacity) {
        size_t capacity = names->capacity == 0 ? 32 : names->capacity * 2;
        char **grown = reallocarray(names->heap, capacity, sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        names->heap = grown;
        names->capacity = capacity;
    }
    char *copy = strdup(name);
    if (copy == NULL) {
        return false;
    }
    size_t at = names->count++;
    while (at > 0 && strcmp(names->heap[(at - 1) / 2], copy) > 0) {
        names->heap[at] = names->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    names->heap[at] = copy;
    return true;
}

static char *take(struct names *names) {
    char *first = names->heap[0], *moved = names->heap[--names->count];
    for (size_t at = 0;;) {
        size_t child = at * 2 + 1;
        if (child + 1 < names->count && strcmp(names->heap[child + 1], names->heap[child]) < 0) {
            child++;
        }
        if (child >= names->count || strcmp(moved, names->heap[child]) <= 0) {
            names->heap[at] = moved;
            return first;
        }
        names->heap[at] = names->heap[child];
        at = child;
    }
}

char *names_take(struct names *names) {
    if (names->count == 0) {
        return NULL;
    }
    char *first = take(names);
    while (names->count > 0 && strcmp(names->heap[0], first) == 0) {
        free(take(names));
    }
    return first;
}

void names_free(struct names *names) {
    for (size_t i = 0; i < names->count; i++) {
        free(names->heap[i]);
    }
    free(names->heap);
    *names = (struct names){0};
}
