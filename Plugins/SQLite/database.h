/* The database: opened to be read, and for nothing else. */
#ifndef SQLITE_DATABASE_H
#define SQLITE_DATABASE_H

#include "chanserv_plugin.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What the configuration says. */
struct database {
    char *path; /* absolute */
    bool immutable;
    int64_t time_limit; /* nanoseconds, 0 is none */
    size_t statements;  /* of a request */
    size_t row_size;    /* bytes of a row as JSON */
    uint64_t memory;    /* bytes, of all in the process */
};

/* A connection, used by one thread at a time but for connection_interrupt. */
struct connection {
    sqlite3 *handle;
    const struct database *database;
    const char *refused;   /* what the authorizer refused last */
    atomic_bool cancelled; /* from any thread */
    int64_t used, begun;   /* nanoseconds SQLite has worked in all; when it began this time */
    bool is_over_time;
};

/* Opens one. It must not be moved afterwards. */
chanserv_status connection_open(struct connection *connection, const struct database *database, chanserv_error *error);
void connection_close(struct connection *connection);

/* Around everything that may take long: the time limit is of the time between the two. */
void connection_begin(struct connection *connection);
void connection_rest(struct connection *connection);

/* Whether what runs is to end: it was cancelled, or is over its time. In its own thread. */
bool connection_must_stop(struct connection *connection);
/* Makes what runs, and all that is begun later, end at once. Any thread, but not while it is closed. */
void connection_interrupt(struct connection *connection);

/* The error of what SQLite answered with `code`; `sql` is the statement it was about, and `offset` where that begins. */
chanserv_status connection_fail(struct connection *connection, int code, size_t offset, chanserv_error *error);

int64_t monotonic_now(void);

#endif
