/* The header of a source: the description of the file for the client. */
#ifndef FILES_HEADER_H
#define FILES_HEADER_H

#include <stddef.h>
#include <sys/stat.h>

/*
 * Returns a JSON object, which the caller frees; NULL if there is no memory:
 *
 *   {"path":"a/b.log","size":1234,"mtime":"2025-01-31T12:34:56.123456789Z"}
 *
 * If the path is not UTF-8, U+FFFD replaces each invalid byte in `path`, and `path_base64` has the original bytes.
 */
char *header_json(const char *path, const struct stat *status, size_t *size);

#endif
