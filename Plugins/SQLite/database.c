#define _GNU_SOURCE
#include "database.h"

#include "authorize.h"
#include "fail.h"
#include "instr.h"
#include "limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Number of SQLite's instructions between two checks of the clock: some microseconds, except for functions. */
#define INSTRUCTIONS 1000
/* Maximum time that a statement waits for a writer, in nanoseconds. */
#define BUSY_LIMIT INT64_C(5000000000)

int64_t monotonic_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* The plugin has its own flag for cancellation, because SQLite's flag is lost if no statement runs when it is set. */
bool connection_must_stop(struct connection *connection) {
    int64_t limit = connection->database->time_limit;
    if (limit > 0 && connection->used + monotonic_now() - connection->begun > limit) {
        connection->is_over_time = true;
        return true;
    }
    return atomic_load(&connection->cancelled);
}

static int must_stop(void *argument) {
    return connection_must_stop(argument);
}

static int wait_for_writer(void *argument, int attempts) {
    struct connection *connection = argument;
    if (connection_must_stop(connection) || monotonic_now() - connection->begun > BUSY_LIMIT) {
        return 0;
    }
    struct timespec pause = {.tv_nsec = attempts < 10 ? 1000000 : 10000000};
    nanosleep(&pause, NULL);
    return 1;
}

/*
 * Returns a `file:` URI, which is needed for the option `immutable`. Escapes all characters but letters, digits and / .
 * - _.
 */
static char *immutable_uri(const char *path) {
    static const char suffix[] = "?immutable=1";
    char *uri = malloc(strlen("file:") + strlen(path) * 3 + sizeof suffix);
    if (uri == NULL) {
        return NULL;
    }
    char *to = stpcpy(uri, "file:");
    for (; *path != '\0'; path++) {
        unsigned char byte = (unsigned char)*path;
        bool plain = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
        plain |= (byte >= '0' && byte <= '9') || byte == '/' || byte == '.' || byte == '-' || byte == '_';
        to += plain ? sprintf(to, "%c", byte) : sprintf(to, "%%%02X", byte);
    }
    strcpy(to, suffix);
    return uri;
}

/* Whether the file is a database in WAL mode, from its header (https://sqlite.org/fileformat.html, 1.3). */
static bool is_in_wal_mode(const char *path) {
    unsigned char header[20];
    FILE *file = fopen(path, "rbe");
    bool wal = file != NULL && fread(header, 1, sizeof header, file) == sizeof header &&
               memcmp(header, "SQLite format 3", 16) == 0 && header[18] == 2 && header[19] == 2;
    if (file != NULL) {
        fclose(file);
    }
    return wal;
}

/* Appends the advice for a database in WAL mode whose files next to it cannot be made. */
static void explain_wal(const struct database *database, int code, chanserv_error *error) {
    bool cannot = (code & 0xFF) == SQLITE_CANTOPEN || (code & 0xFF) == SQLITE_READONLY;
    if (!cannot || database->immutable || !is_in_wal_mode(database->path)) {
        return;
    }
    char reason[128];
    snprintf(reason, sizeof reason, "%s", error->message);
    fail(error, CHANSERV_ERROR_INTERNAL,
         "%s: the database is in WAL mode, and SQLite cannot write its -shm file: make the folder writable for the "
         "host, or set `immutable: true` if the file never changes",
         reason);
}

chanserv_status connection_open(struct connection *connection, const struct database *database, chanserv_error *error) {
    *connection = (struct connection){.database = database};
    char *uri = database->immutable ? immutable_uri(database->path) : NULL;
    if (database->immutable && uri == NULL) {
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
    }
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | (uri != NULL ? SQLITE_OPEN_URI : 0);
    int code = sqlite3_open_v2(uri != NULL ? uri : database->path, &connection->handle, flags, NULL);
    free(uri);
    connection_begin(connection);
    if (code == SQLITE_OK) {
        sqlite3 *handle = connection->handle;
        sqlite3_extended_result_codes(handle, 1);
        sqlite3_progress_handler(handle, INSTRUCTIONS, must_stop, connection);
        sqlite3_busy_handler(handle, wait_for_writer, connection);
        limit_statements(handle, database->row_size);
        sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
        /* The second pragma reads the head of the file. Only then SQLite detects whether it is a database. */
        code = sqlite3_exec(handle, "PRAGMA query_only = 1; PRAGMA schema_version", NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        code = replace_instr(connection);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_set_authorizer(connection->handle, authorize, connection);
    }
    chanserv_status status = CHANSERV_READY;
    if (code != SQLITE_OK) {
        status = connection_fail(connection, code, 0, error);
        explain_wal(database, code, error);
        connection_close(connection);
    } else {
        connection_rest(connection);
    }
    return status;
}

void connection_close(struct connection *connection) {
    sqlite3_close_v2(connection->handle);
    connection->handle = NULL;
}

void connection_begin(struct connection *connection) {
    connection->begun = monotonic_now();
}

void connection_rest(struct connection *connection) {
    connection->used += monotonic_now() - connection->begun;
}

void connection_interrupt(struct connection *connection) {
    atomic_store(&connection->cancelled, true);
    sqlite3_interrupt(connection->handle);
}

/*
 * Returns the status for a code of SQLite: an error of the request, a temporary failure, or an error of the database.
 */
static chanserv_status status_of(int code) {
    switch (code & 0xFF) {
    case SQLITE_ERROR:
    case SQLITE_AUTH:
    case SQLITE_READONLY:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
    case SQLITE_CONSTRAINT:
        return CHANSERV_ERROR_BAD_REQUEST;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
        return CHANSERV_ERROR_BUSY;
    default:
        return CHANSERV_ERROR_INTERNAL;
    }
}

/* Returns the byte of the statement to which the error refers; -1 if it is unknown, as in SQLite before 3.38. */
static int error_offset(sqlite3 *handle) {
#if SQLITE_VERSION_NUMBER >= 3038000
    return sqlite3_error_offset(handle);
#else
    (void)handle;
    return -1;
#endif
}

chanserv_status connection_fail(struct connection *connection, int code, size_t offset, chanserv_error *error) {
    if (connection->is_over_time) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "interrupted: it took longer than the time limit of %g seconds",
                    (double)connection->database->time_limit / 1e9);
    }
    if (atomic_load(&connection->cancelled)) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "cancelled");
    }
    /* Checked before the code, because SQLite does not return the same code for every refused action. */
    if (connection->refused != NULL) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "%s is refused: the database is read-only",
                    connection->refused);
    }
    if ((code & 0xFF) == SQLITE_NOMEM) {
        return fail(error, CHANSERV_ERROR_BUSY,
                    "out of memory: SQLite has a limit of %" PRIu64 " bytes for all requests (memory)",
                    connection->database->memory);
    }
    const char *message = connection->handle != NULL ? sqlite3_errmsg(connection->handle) : sqlite3_errstr(code);
    int at = connection->handle != NULL ? error_offset(connection->handle) : -1;
    if (at >= 0) {
        return fail(error, status_of(code), "%s (at byte %zu)", message, offset + (size_t)at);
    }
    return fail(error, status_of(code), "%s", message);
}
