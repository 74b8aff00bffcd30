/* The database and its read-only connections. */
#ifndef SQLITE_DATABASE_H
#define SQLITE_DATABASE_H

#include "chanserv_plugin.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The configuration of an instance. */
struct database {
    char *path; /* absolute */
    bool immutable;
    int64_t time_limit; /* nanoseconds; 0: unlimited */
    size_t statements;  /* maximum per request */
    size_t row_size;    /* maximum bytes of a row as JSON */
    uint64_t memory;    /* maximum bytes, of all instances in the process */
};

/* A connection. One thread at a time uses it; only connection_interrupt may be called from any thread. */
struct connection {
    sqlite3 *handle;
    const struct database *database;
    const char *refused;   /* the last action that the authorizer rejected, as text for the message */
    atomic_bool cancelled; /* set by any thread */
    int64_t used, begun;   /* nanoseconds: the total work time so far; the start of the current work period */
    bool is_over_time;
};

/* Opens a connection. The caller must not move *connection afterwards, because SQLite keeps its address. */
chanserv_status connection_open(struct connection *connection, const struct database *database, chanserv_error *error);
void connection_close(struct connection *connection);

/* Begin and end a work period. The time limit applies to the sum of all work periods of a connection. */
void connection_begin(struct connection *connection);
void connection_rest(struct connection *connection);

/*
 * Returns whether the statement must stop: it was cancelled, or it exceeded the time limit. Called only from the thread
 * that uses the connection.
 */
bool connection_must_stop(struct connection *connection);
/* Stops the running statement and all later ones. Any thread may call it, but not during connection_close. */
void connection_interrupt(struct connection *connection);

/*
 * Writes the message for an SQLite call that failed with `code`, and returns the status. `offset` is the position of
 * the statement in the request, in bytes.
 */
chanserv_status connection_fail(struct connection *connection, int code, size_t offset, chanserv_error *error);

int64_t monotonic_now(void);

#endif
