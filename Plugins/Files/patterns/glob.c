#define _GNU_SOURCE
#include "patterns/glob.h"

#include <stdlib.h>
#include <string.h>

void globs_free(struct globs *globs) {
    for (size_t i = 0; i < globs->patterns; i++) {
        free(globs->texts[i]);
    }
    free(globs->texts);
    free(globs->parts);
    *globs = (struct globs){0};
}

/* ---- Matching ---- */

size_t globs_words(const struct globs *globs) {
    return (globs->count + 63) / 64;
}

/* Activates part `index`. If it is `**`, which may match no folder, the next part is activated too. */
static void activate(const struct globs *globs, glob_state *state, size_t index) {
    state[index / 64] |= UINT64_C(1) << (index % 64);
    if (globs->parts[index].kind == GLOB_ANY_DEPTH && !globs->parts[index].last) {
        activate(globs, state, index + 1);
    }
}

void globs_start(const struct globs *globs, glob_state *state) {
    memset(state, 0, globs_words(globs) * sizeof *state);
    for (size_t i = 0; i < globs->count; i++) {
        if (i == 0 || globs->parts[i - 1].last) {
            activate(globs, state, i);
        }
    }
}

bool globs_step(const struct globs *globs, const glob_state *state, const char *name, glob_state *next, bool *deeper) {
    size_t words = globs_words(globs);
    bool matches = false;
    *deeper = false;
    memset(next, 0, words * sizeof *next);
    for (size_t word = 0; word < words; word++) {
        for (glob_state left = state[word]; left != 0; left &= left - 1) {
            size_t i = word * 64 + (size_t)__builtin_ctzll(left);
            const struct glob_part *part = &globs->parts[i];
            bool fits = part->kind == GLOB_ANY_DEPTH ? *name != '.'
                        : part->kind == GLOB_LITERAL ? strcmp(part->text, name) == 0
                                                     : glob_match(part->text, name);
            if (!fits) {
                continue;
            }
            matches |= part->last;
            if (part->kind == GLOB_ANY_DEPTH || !part->last) {
                activate(globs, next, part->kind == GLOB_ANY_DEPTH ? i : i + 1);
                *deeper = true;
            }
        }
    }
    return matches;
}

bool globs_match_path(const struct globs *globs, const char *path) {
    size_t words = globs_words(globs);
    glob_state *state = calloc(words * 2 + 1, sizeof *state);
    char *copy = strdup(path), *rest = copy, *name;
    bool matches = false, deeper = true;
    if (state != NULL && copy != NULL) {
        glob_state *next = state + words;
        globs_start(globs, state);
        while (deeper && (name = strsep(&rest, "/")) != NULL) {
            matches = globs_step(globs, state, name, next, &deeper) && rest == NULL;
            memcpy(state, next, words * sizeof *state);
            if (rest == NULL) {
                break;
            }
        }
        matches = matches && rest == NULL;
    }
    free(copy);
    free(state);
    return matches;
}

bool globs_only_literals(const struct globs *globs, const glob_state *state) {
    for (size_t word = 0; word < globs_words(globs); word++) {
        for (glob_state left = state[word]; left != 0; left &= left - 1) {
            if (globs->parts[word * 64 + (size_t)__builtin_ctzll(left)].kind != GLOB_LITERAL) {
                return false;
            }
        }
    }
    return true;
}
