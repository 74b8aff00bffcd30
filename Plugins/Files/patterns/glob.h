/*
 * Glob patterns. All patterns of a request are matched together during one walk through the folders.
 *
 *   *        any characters of one name          [abc] [a-z]  one of these characters
 *   ?        any one character                   [!a] [^a]    one character that is none of these
 *   **       as a whole component: any number    {a,b/c}      one of these texts; without a comma, and without a
 *            of folders, also none                            closing brace, { is an ordinary character
 *   !…       at the beginning of a line:          \x           the character x itself
 *            leaves out the files that match
 *
 * As in a shell, a name that begins with `.` matches only a component that begins with `.`. Characters are UTF-8
 * characters; an invalid byte counts as one character. The locale has no effect.
 */
#ifndef FILES_GLOB_H
#define FILES_GLOB_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum bytes of patterns, number of patterns, and components of one pattern in a request. */
#define GLOB_TEXT_MAX ((size_t)65536)
#define GLOB_PATTERNS_MAX 1024
#define GLOB_DEPTH_MAX 128
/* Maximum opening braces in a pattern. Each one that is never closed costs a search through the rest of the pattern. */
#define GLOB_BRACES_MAX 64

enum glob_kind { GLOB_LITERAL, GLOB_WILDCARD, GLOB_ANY_DEPTH };

/* One component of a pattern. */
struct glob_part {
    enum glob_kind kind;
    bool last; /* the last part of its pattern: it matches files */
    const char *text; /* a literal has its backslashes removed */
};

/* The components of all patterns, one pattern after the other. */
struct globs {
    struct glob_part *parts;
    size_t count, capacity;
    char **texts; /* one for each pattern, split into the parts */
    size_t patterns;
};

/*
 * The state of all patterns in one folder: a bit for each part that the next name has to match. It has globs_words()
 * words.
 */
typedef uint64_t glob_state;

/*
 * Parses patterns, one in each line. Those with a `!` are in `excluded`. The first line has the number `line`. Returns
 * CHANSERV_READY, or an error and a message; after an error there is nothing to free.
 */
chanserv_status globs_parse(struct globs *globs, struct globs *excluded, const char *text, size_t size, size_t line,
                            chanserv_error *error);
void globs_free(struct globs *globs);

size_t globs_words(const struct globs *globs);
/* Sets the state in the root. */
void globs_start(const struct globs *globs, glob_state *state);
/*
 * Matches a name in a folder with `state`. Returns whether a file with that name matches. Sets *deeper to whether
 * anything in a folder with that name can match, and `next` to the state in that folder.
 */
bool globs_step(const struct globs *globs, const glob_state *state, const char *name, glob_state *next, bool *deeper);
/* Whether only literal names can match here, so that the folder need not be listed. */
bool globs_only_literals(const struct globs *globs, const glob_state *state);

/* Whether the file at `path` matches. */
bool globs_match_path(const struct globs *globs, const char *path);

/* Whether `name` matches `pattern`, one component that globs_parse has accepted. */
bool glob_match(const char *pattern, const char *name);

#endif
