/*
 * Glob patterns, and all those of a request matched at once along one walk through the tree.
 *
 *   *        any characters of one name          [abc] [a-z]  one of these characters
 *   ?        any one character                   [!a] [^a]    one character that is none of these
 *   **       as a whole component: any number    \x           the character x itself
 *            of folders, also none
 *
 * As in a shell, a name that begins with `.` is only matched by a component that begins with `.` too. Characters are
 * those of UTF-8; a byte that is not UTF-8 counts as one. The locale plays no part.
 */
#ifndef FILES_GLOB_H
#define FILES_GLOB_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most bytes of patterns, patterns, and components of one pattern a request may have. */
#define GLOB_TEXT_MAX ((size_t)65536)
#define GLOB_PATTERNS_MAX 1024
#define GLOB_DEPTH_MAX 128

enum glob_kind { GLOB_LITERAL, GLOB_WILDCARD, GLOB_ANY_DEPTH };

/* One component of a pattern. */
struct glob_part {
    enum glob_kind kind;
    bool last; /* of its pattern: what matches it is a file */
    const char *text; /* a literal's without its backslashes */
};

/* The components of all patterns, one pattern behind the other. */
struct globs {
    char *text;
    struct glob_part *parts;
    size_t count;
};

/*
 * Where the patterns stand in one folder: a bit for each part that the next name has to match. It has
 * globs_words() words.
 */
typedef uint64_t glob_state;

/* Parses one pattern a line. CHANSERV_READY, or an error and a message; then there is nothing to free. */
chanserv_status globs_parse(struct globs *globs, const char *text, size_t size, chanserv_error *error);
void globs_free(struct globs *globs);

size_t globs_words(const struct globs *globs);
/* The state in the root. */
void globs_start(const struct globs *globs, glob_state *state);
/*
 * Matches a name in a folder with `state`. Returns whether a file of that name matches; *deeper becomes whether
 * something in a folder of that name can match, and `next` the state in there.
 */
bool globs_step(const struct globs *globs, const glob_state *state, const char *name, glob_state *next, bool *deeper);
/* Whether only literal names can match here, so that the folder need not be listed. */
bool globs_only_literals(const struct globs *globs, const glob_state *state);

/* Whether `name` matches the one component `pattern`; for a pattern that passed globs_parse. */
bool glob_match(const char *pattern, const char *name);

#endif
