/*
 * Glob patterns. All patterns of a request are matched together during one walk through the tree.
 *
 *   *        any characters of one name          [abc] [a-z]  one of these characters
 *   ?        any one character                   [!a] [^a]    one character that is none of these
 *   **       as a whole component: any number    \x           the character x itself
 *            of folders, including zero
 *
 * As in a shell, only a component that begins with `.` matches a name that begins with `.`. Characters are UTF-8
 * characters; a byte that is not UTF-8 counts as one character. The locale has no effect.
 */
#ifndef FILES_GLOB_H
#define FILES_GLOB_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum bytes per request, patterns per request, and components per pattern. */
#define GLOB_TEXT_MAX ((size_t)65536)
#define GLOB_PATTERNS_MAX 1024
#define GLOB_DEPTH_MAX 128

enum glob_kind { GLOB_LITERAL, GLOB_WILDCARD, GLOB_ANY_DEPTH };

/* One component of a pattern. */
struct glob_part {
    enum glob_kind kind;
    bool last; /* the last component of its pattern, which matches the file itself */
    const char *text; /* the component; in a literal, the backslashes are removed */
};

/* The components of all patterns, one pattern after the other. */
struct globs {
    char *text;
    struct glob_part *parts;
    size_t count;
};

/*
 * The state of all patterns in one folder: a bit set of the parts that a name in this folder can match. It has
 * globs_words() words.
 */
typedef uint64_t glob_state;

/* Parses patterns, one per line. Returns CHANSERV_READY, or an error and a message; then there is nothing to free. */
chanserv_status globs_parse(struct globs *globs, const char *text, size_t size, chanserv_error *error);
void globs_free(struct globs *globs);

/* Returns the number of words of a state. */
size_t globs_words(const struct globs *globs);
/* Sets *state to the state in the root folder. */
void globs_start(const struct globs *globs, glob_state *state);
/*
 * Matches a name in a folder with `state`. Returns whether a file with that name matches. Sets *deeper to whether files
 * in a folder with that name can match, and `next` to the state in that folder.
 */
bool globs_step(const struct globs *globs, const glob_state *state, const char *name, glob_state *next, bool *deeper);
/* Returns whether only literal names can match, so that the folder need not be listed. */
bool globs_only_literals(const struct globs *globs, const glob_state *state);

/* Returns whether `name` matches the component `pattern`. The pattern must be one that globs_parse has accepted. */
bool glob_match(const char *pattern, const char *name);

#endif
