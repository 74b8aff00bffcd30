#define _GNU_SOURCE
#include "patterns/glob.h"

#include "fail.h"
#include "utf8.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

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
        size_t length = utf8_decode(text, strnlen(text, 4), &code);
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
    if (*pattern == '\0' || pattern[strlen(pattern) - 1] == '/') {
        return "ends with /, so it cannot match a file";
    }
    size_t first = globs->count;
    char *rest = pattern, *component;
    while ((component = strsep(&rest, "/")) != NULL) {
        if (globs->count == globs->capacity) {
            size_t capacity = globs->capacity == 0 ? 16 : globs->capacity * 2;
            struct glob_part *grown = reallocarray(globs->parts, capacity, sizeof *grown);
            if (grown == NULL) {
                return "needs more memory than there is";
            }
            globs->parts = grown;
            globs->capacity = capacity;
        }
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

/* Returns the end of an escaped character, a set or another character. The sets of the pattern are valid. */
static const char *token_end(const char *text) {
    const char *problem, *end = *text == '[' ? skip_set(text + 1, &problem) : NULL;
    return end != NULL ? end : text + (text[0] == '\\' && text[1] != '\0' ? 2 : 1);
}

/*
 * Returns the problem of the first set that is not valid; NULL if there is none. Such a set would be searched for its
 * end from every brace and from every `[` in it.
 */
static const char *check_sets(const char *text) {
    const char *problem;
    while (*text != '\0') {
        if (*text == '[' && skip_set(text + 1, &problem) == NULL) {
            return problem;
        }
        text = token_end(text);
    }
    return NULL;
}

/* Finds the brace that closes the one at `open`. Returns NULL if there is none, or no comma between them. */
static const char *closing_brace(const char *open) {
    bool comma = false;
    size_t depth = 0;
    for (const char *at = open; *at != '\0'; at = token_end(at)) {
        if (*at == '{') {
            depth++;
        } else if (*at == ',' && depth == 1) {
            comma = true;
        } else if (*at == '}' && --depth == 0) {
            return comma ? at : NULL;
        }
    }
    return NULL;
}

/*
 * Finds the first alternatives in braces from `text` on. Sets the positions of the braces. Returns false if there are
 * none.
 */
static bool find_braces(const char *text, const char **open, const char **close) {
    for (; *text != '\0'; text = token_end(text)) {
        *close = *text == '{' ? closing_brace(text) : NULL;
        if (*close != NULL) {
            *open = text;
            return true;
        }
    }
    return false;
}

/* Adds a pattern without alternatives. */
static const char *add_plain(struct globs *globs, const char *pattern, size_t *patterns) {
    char **grown = reallocarray(globs->texts, globs->patterns + 1, sizeof *grown);
    if (grown == NULL) {
        return "needs more memory than there is";
    }
    globs->texts = grown;
    if (++*patterns > GLOB_PATTERNS_MAX) {
        return "exceeds the limit of 1024 patterns";
    }
    char *copy = strdup(pattern);
    if (copy == NULL) {
        return "needs more memory than there is";
    }
    globs->texts[globs->patterns++] = copy;
    return parse_pattern(globs, copy);
}

/* Adds a pattern, or all that it expands to. `from` is the position from which it may have alternatives. */
static const char *add_pattern(struct globs *globs, const char *pattern, size_t from, size_t *patterns) {
    const char *open, *close;
    if (!find_braces(pattern + from, &open, &close)) {
        return add_plain(globs, pattern, patterns);
    }
    size_t prefix = (size_t)(open - pattern), suffix = strlen(close + 1);
    const char *begin = open + 1;
    size_t depth = 0;
    for (const char *at = begin; at <= close; at = token_end(at)) {
        if (*at == '{') {
            depth++;
        } else if (*at == '}' && at < close) {
            depth--;
        } else if ((*at == ',' && depth == 0) || at == close) {
            size_t length = (size_t)(at - begin);
            char *expanded = malloc(prefix + length + suffix + 1);
            if (expanded == NULL) {
                return "needs more memory than there is";
            }
            char *to = mempcpy(mempcpy(expanded, pattern, prefix), begin, length);
            memcpy(to, close + 1, suffix + 1);
            const char *problem = add_pattern(globs, expanded, prefix, patterns);
            free(expanded);
            if (problem != NULL) {
                return problem;
            }
            begin = at + 1;
        }
    }
    return NULL;
}

static size_t count_braces(const char *text) {
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += *text == '{';
    }
    return count;
}

chanserv_status globs_parse(struct globs *globs, struct globs *excluded, const char *text, size_t size, size_t number,
                            chanserv_error *error) {
    *globs = *excluded = (struct globs){0};
    if (size > GLOB_TEXT_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request has %zu bytes of patterns; at most %zu are allowed",
                    size, GLOB_TEXT_MAX);
    }
    if (memchr(text, '\0', size) != NULL) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST,
                    "the request has a zero byte; send patterns as text, one per line");
    }
    char *copy = strndup(text, size);
    if (copy == NULL) {
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the patterns");
    }
    char *rest = copy, *line;
    size_t patterns = 0;
    for (; (line = strsep(&rest, "\n")) != NULL; number++) {
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '\r') {
            line[--length] = '\0';
        }
        if (length == 0) {
            continue;
        }
        bool excludes = *line == '!';
        const char *problem = length >= PATH_MAX ? "is longer than a path can be" : NULL;
        if (problem == NULL && count_braces(line) > GLOB_BRACES_MAX) {
            problem = "has more than 64 opening braces";
        }
        if (problem == NULL) {
            problem = check_sets(line + excludes);
        }
        if (problem == NULL) {
            problem = add_pattern(excludes ? excluded : globs, line + excludes, 0, &patterns);
        }
        if (problem != NULL) {
            globs_free(globs);
            globs_free(excluded);
            chanserv_status status =
                fail(error, CHANSERV_ERROR_BAD_REQUEST, "line %zu: the pattern %.255s %s", number, line, problem);
            free(copy);
            return status;
        }
    }
    free(copy);
    if (globs->patterns == 0) {
        bool none = excluded->patterns == 0;
        globs_free(excluded);
        return fail(error, CHANSERV_ERROR_BAD_REQUEST,
                    none ? "the request has no pattern; send one or more, one per line"
                         : "the request has only patterns with `!`; it also needs one for the files to send");
    }
    return CHANSERV_READY;
}
