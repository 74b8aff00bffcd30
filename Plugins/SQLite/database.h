/* A connection to the database, which is opened for reading only. */
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
    int64_t time_limit; /* nanoseconds; 0: no limit */
    int64_t idle_limit; /* nanoseconds without a row taken; 0: no limit */
    size_t statements;  /* maximum of a request */
    size_t row_size;    /* maximum bytes of a row as JSON */
    uint64_t memory;    /* maximum bytes of all instances in the process */
};

/* A connection. One thread at a time may use it; only connection_interrupt may be called by others. */
struct connection {
    sqlite3 *handle;
    const struct database *database;
    const char *refused;   /* the action that the authorizer refused last */
    atomic_bool cancelled; /* set by any thread */
    int64_t used, begun;   /* total working time of SQLite and the start of the current work, in nanoseconds */
    bool is_over_time;
};

/* Opens a connection. Its memory must not move afterwards. */
chanserv_status connection_open(struct connection *connection, const struct database *database, chanserv_error *error);
void connection_close(struct connection *connection);

/* Enclose all work that may take long. The time limit applies to the total time between the two calls. */
void connection_begin(struct connection *connection);
void connection_rest(struct connection *connection);

/*
 * Whether the current work must stop, because it was cancelled or has exceeded the time limit. Call it on the thread of
 * the work.
 */
bool connection_must_stop(struct connection *connection);
/*
 * Ends the current work, and all later work, at once. Any thread may call it, but not while the connection is being
 * closed.
 */
void connection_interrupt(struct connection *connection);

/* Writes the error for SQLite's result `code`. `offset` is the position of the statement in the request. */
chanserv_status connection_fail(struct connection *connection, int code, size_t offset, chanserv_error *error);

int64_t monotonic_now(void);

#endif
