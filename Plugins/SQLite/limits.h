/* How much a statement may ask for. */
#ifndef SQLITE_LIMITS_H
#define SQLITE_LIMITS_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a request, all statements together. */
#define REQUEST_SIZE_MAX ((size_t)1 << 20)

/*
 * Bounds what SQLite allocates in this process. There is one bound for all instances: it is the largest that one of them
 * asked for, and none lowers it, for another may live of it.
 */
void limit_memory(uint64_t size);
/* Bounds what one statement can be, and the texts it makes. */
void limit_statements(sqlite3 *handle, size_t row_size);

#endif
