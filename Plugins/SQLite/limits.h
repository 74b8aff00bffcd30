/* Limits for memory and for statements. */
#ifndef SQLITE_LIMITS_H
#define SQLITE_LIMITS_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum size of a request in bytes, all statements together. */
#define REQUEST_SIZE_MAX ((size_t)1 << 20)

/*
 * Limits the memory that SQLite allocates in this process, in bytes. All instances share one limit: the largest that
 * any instance has set. A call with a smaller size has no effect, because another instance may need the memory.
 */
void limit_memory(uint64_t size);
/* Limits the size and complexity of statements on this connection, and the texts and blobs that they make. */
void limit_statements(sqlite3 *handle, size_t row_size);

#endif
