#define _GNU_SOURCE
#include "glob.h"

#include "fail.h"
#include "utf8.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- Parsing ---- */

/* Skips the set behind a `[`. Returns NULL if the set is not closed or has an invalid range. */
static const char *skip_set(const char *text, const char **problem) {
    text += *text == '!' || *text == '^';
    bool range = false, first = true;
    uint32_t low = 0;
    *problem = "has a [ without a closing ]";
    for (; *text != '\0'; first = false) {
        if (*text == ']' && !first) {
            return text + 1;
        }
        if (text[0] == '[' && (text[1] == ':' || text[1] == '.' || text[1] == '=')) {
            *problem = "has a character class like [:alpha:], which is not supported";
            return NULL;
        }
        text += text[0] == '\\' && text[1] != '\0';
        uint32_t code;
        size_t length = utf8_decode(text, strlen(text), &code);
        if (length == 0) {
            code = UINT32_C(0x80000000) | (unsigned char)*text;
            length = 1;
        }
        text += length;
        if (range && code < low) {
            *problem = "has a range whose end is before its beginning";
            return NULL;
        }
        range = !range && text[0] == '-' && text[1] != ']' && text[1] != '\0';
        text += range;
        low = code;
    }
    return NULL;
}

/* Checks one component and determines its kind. */
static bool classify(const char *text, enum glob_kind *kind, const char **problem) {
    *kind = strcmp(text, "**") == 0 ? GLOB_ANY_DEPTH : GLOB_LITERAL;
    while (*text != '\0') {
        if (*text == '\\') {
            if (text[1] == '\0') {
                *problem = "has a component that ends with a single \\";
                return false;
            }
            text += 2;
        } else if (*text == '[') {
            text = skip_set(text + 1, problem);
            if (text == NULL) {
                return false;
            }
            *kind = GLOB_WILDCARD;
        } else {
            if ((*text == '*' || *text == '?') && *kind == GLOB_LITERAL) {
                *kind = GLOB_WILDCARD;
            }
            text++;
        }
    }
    return true;
}

static void remove_backslashes(char *text) {
    char *to = text;
    for (; *text != '\0'; text++) {
        text += *text == '\\';
        *to++ = *text;
    }
    *to = '\0';
}

/* Appends the components of one pattern, which it splits in place. Returns a description of the problem, or NULL. */
static const char *parse_pattern(struct globs *globs, char *pattern) {
    if (*pattern == '/') {
        return "is absolute; patterns are relative to the root";
    }
    if (pattern[strlen(pattern) - 1] == '/') {
        return "ends with /, so it cannot match a file";
    }
    size_t first = globs->count;
    char *rest = pattern, *component;
    while ((component = strsep(&rest, "/")) != NULL) {
        struct glob_part *part = &globs->parts[globs->count];
        const char *problem;
        if (!classify(component, &part->kind, &problem)) {
            return problem;
        }
        if (part->kind == GLOB_LITERAL) {
            remove_backslashes(component);
        }
        if (strcmp(component, "..") == 0) {
            return "has a component .., which would leave the root";
        }
        bool repeated = part->kind == GLOB_ANY_DEPTH && globs->count > first && part[-1].kind == GLOB_ANY_DEPTH;
        if (*component == '\0' || strcmp(component, ".") == 0 || repeated) {
            continue;
        }
        if (globs->count - first == GLOB_DEPTH_MAX) {
            return "has more than 128 components";
        }
        part->text = component;
        part->last = false;
        globs->count++;
    }
    if (globs->count == first) {
        return "has no component, so it cannot match a file";
    }
    globs->parts[globs->count - 1].last = true;
    return NULL;
}

chanserv_status globs_parse(struct globs *globs, const char *text, size_t size, chanserv_error *error) {
    *globs = (struct globs){0};
    if (size > GLOB_TEXT_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request has %zu bytes of patterns; at most %zu are allowed",
                    size, GLOB_TEXT_MAX);
    }
    if (memchr(text, '\0', size) != NULL) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST,
                    "the request has a zero byte; send patterns as text, one per line");
    }
    /* Each component has at least one byte and a separator, so this is enough for the maximum number of components. */
    globs->text = strndup(text, size);
    globs->parts = malloc((size / 2 + 1) * sizeof *globs->parts);
    if (globs->text == NULL || globs->parts == NULL) {
        globs_free(globs);
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the patterns");
    }
    char *rest = globs->text, *line;
    size_t number = 0, patterns = 0;
    while ((line = strsep(&rest, "\n")) != NULL) {
        number++;
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '\r') {
            line[--length] = '\0';
        }
        if (length == 0) {
            continue;
        }
        const char *problem = ++patterns > GLOB_PATTERNS_MAX ? "exceeds the limit of 1024 patterns"
                              : length >= PATH_MAX           ? "is longer than a path can be"
                                                             : NULL;
        char shown[256];
        strncpy(shown, line, sizeof shown - 1);
        shown[sizeof shown - 1] = '\0';
        if (problem == NULL) {
            problem = parse_pattern(globs, line);
        }
        if (problem != NULL) {
            globs_free(globs);
            return fail(error, CHANSERV_ERROR_BAD_REQUEST, "line %zu: the pattern %s %s", number, shown, problem);
        }
    }
    if (patterns == 0) {
        globs_free(globs);
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request has no pattern; send one or more, one per line");
    }
    return CHANSERV_READY;
}

void globs_free(struct globs *globs) {
    free(globs->text);
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
