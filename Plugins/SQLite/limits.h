/* Limits of SQLite. */
#ifndef SQLITE_LIMITS_H
#define SQLITE_LIMITS_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum bytes of a request, all statements together. */
#define REQUEST_SIZE_MAX ((size_t)1 << 20)

/*
 * Limits the memory that SQLite allocates in this process. All instances share one limit, the largest that any of them
 * requested. It is never lowered, because another instance may depend on it.
 */
void limit_memory(uint64_t size);
/* Limits the complexity of a statement and the size of its texts. */
void limit_statements(sqlite3 *handle, size_t row_size);

#endif
