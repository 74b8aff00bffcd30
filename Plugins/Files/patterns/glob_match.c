/* Matches a name with one component. Takes at most (length of the pattern) × (length of the name) steps. */
#define _GNU_SOURCE
#include "patterns/glob.h"
#include "utf8.h"

#include <string.h>

/* Returns the character at *text and advances *text. A byte that is not UTF-8 becomes a value that no character has. */
static uint32_t next_character(const char **text) {
    uint32_t code;
    size_t length = utf8_decode(*text, strnlen(*text, 4), &code);
    if (length == 0) {
        code = UINT32_C(0x80000000) | (unsigned char)**text;
        length = 1;
    }
    *text += length;
    return code;
}

/* Returns the character of a pattern at *text, which may be escaped. */
static uint32_t next_pattern_character(const char **text) {
    if (**text == '\\') {
        (*text)++;
    }
    return next_character(text);
}

/* Matches `character` with the set behind a `[`. Advances *pattern behind the `]`. */
static bool match_set(const char **pattern, uint32_t character) {
    bool wanted = true, found = false;
    if (**pattern == '!' || **pattern == '^') {
        wanted = false;
        (*pattern)++;
    }
    /* A `]` at the start is a member. */
    do {
        uint32_t low = next_pattern_character(pattern), high = low;
        if ((*pattern)[0] == '-' && (*pattern)[1] != ']') {
            (*pattern)++;
            high = next_pattern_character(pattern);
        }
        found |= low <= character && character <= high;
    } while (**pattern != ']');
    (*pattern)++;
    return found == wanted;
}

bool glob_match(const char *pattern, const char *name) {
    if (*name == '.' && *pattern != '.' && !(pattern[0] == '\\' && pattern[1] == '.')) {
        return false;
    }
    /*
     * Position for backtracking: after a mismatch the last star matches one more character. Earlier stars need no
     * backtracking.
     */
    const char *star = NULL, *star_name = NULL;
    for (;;) {
        if (*pattern == '*') {
            star = ++pattern;
            star_name = name;
            continue;
        }
        if (*name == '\0') {
            return *pattern == '\0';
        }
        const char *rest = name;
        uint32_t character = next_character(&rest);
        bool fits;
        if (*pattern == '\0') {
            fits = false;
        } else if (*pattern == '?') {
            pattern++;
            fits = true;
        } else if (*pattern == '[') {
            pattern++;
            fits = match_set(&pattern, character);
        } else {
            fits = next_pattern_character(&pattern) == character;
        }
        if (fits) {
            name = rest;
        } else if (star != NULL) {
            next_character(&star_name);
            name = star_name;
            pattern = star;
        } else {
            return false;
        }
    }
}
