/* The header of a source: what the client is told about the file. */
#ifndef FILES_HEADER_H
#define FILES_HEADER_H

#include <stddef.h>
#include <sys/stat.h>

/*
 * A JSON object for the caller to free, NULL where there is no memory:
 *
 *   {"path":"a/b.log","size":1234,"mtime":"2025-01-31T12:34:56.123456789Z"}
 *
 * In a path that is not UTF-8, U+FFFD stands for each byte that is not, and `path_base64` has the bytes themselves.
 */
char *header_json(const char *path, const struct stat *status, size_t *size);

#endif
