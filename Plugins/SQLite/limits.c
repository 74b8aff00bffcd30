#include "limits.h"

#include <pthread.h>

/* Minimum limit of a text. SQLite reads the schema as texts too. */
#define LENGTH_MIN (1 << 20)

/*
 * All limits are far above normal use, and far below statements that take the compiler seconds or a function minutes.
 */
#define COLUMNS 1000
#define DEPTH 200
#define SELECTS 200
#define INSTRUCTIONS_MAX 100000
#define PATTERN 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t largest;

void limit_memory(uint64_t size) {
    pthread_mutex_lock(&lock);
    if (size > largest) {
        largest = size;
#if SQLITE_VERSION_NUMBER >= 3031000
        sqlite3_hard_heap_limit64((sqlite3_int64)size);
#endif
        /* Near the soft limit SQLite's caches give up pages before an allocation fails. */
        sqlite3_soft_heap_limit64((sqlite3_int64)(size - size / 4));
    }
    pthread_mutex_unlock(&lock);
}

void limit_statements(sqlite3 *handle, size_t row_size) {
    sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(handle, SQLITE_LIMIT_WORKER_THREADS, 0);
    sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, row_size > LENGTH_MIN ? (int)row_size : LENGTH_MIN);
    sqlite3_limit(handle, SQLITE_LIMIT_SQL_LENGTH, (int)REQUEST_SIZE_MAX + 1);
    sqlite3_limit(handle, SQLITE_LIMIT_COLUMN, COLUMNS);
    sqlite3_limit(handle, SQLITE_LIMIT_EXPR_DEPTH, DEPTH);
    sqlite3_limit(handle, SQLITE_LIMIT_COMPOUND_SELECT, SELECTS);
    sqlite3_limit(handle, SQLITE_LIMIT_VDBE_OP, INSTRUCTIONS_MAX);
    sqlite3_limit(handle, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN);
}
