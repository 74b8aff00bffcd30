/* The header of a source, which describes the file to the client. */
#ifndef FILES_HEADER_H
#define FILES_HEADER_H

#include "following/position.h"

#include <stddef.h>
#include <sys/stat.h>

/*
 * Returns a JSON object that the caller frees; NULL if there is no memory:
 *
 *   {"path":"a/b.log","size":1234,"mtime":"2025-01-31T12:34:56.123456789Z"}
 *
 * With `position` the object also has "inode", "offset" and, if the file is followed, "stream".
 *
 * In a path that is not UTF-8, U+FFFD replaces each invalid byte, and `path_base64` has the original bytes.
 */
char *header_json(const char *path, const struct stat *status, const struct resume *position, size_t *size);

#endif
