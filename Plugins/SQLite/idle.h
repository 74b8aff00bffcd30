/*
 * Ends statements whose client has stopped reading. Such a statement would hold its read lock without end: writers
 * wait, and a WAL file grows. One thread for each instance checks all statements that are between two polls.
 */
#ifndef SQLITE_IDLE_H
#define SQLITE_IDLE_H

#include "chanserv_plugin.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct idle_watch;

/* The state of a statement, which its source embeds. */
struct idle_reader {
    pthread_mutex_t busy; /* held while the statement is used; protects the fields up to `wake` */
    bool reading;         /* it has begun and holds a read lock */
    bool expired;         /* it was ended because its client did not read */
    uint64_t wake;
    sqlite3_stmt *statement;
    _Atomic int64_t progressed; /* when a row was taken last */
    bool listed;                /* this and the rest belong to the watch */
    struct idle_reader *next, *previous;
};

/* Starts the thread; `limit` is in nanoseconds. Returns NULL and a message after an error. */
struct idle_watch *idle_start(const chanserv_host *host, int64_t limit, chanserv_error *error);
/* Ends and joins the thread. All readers must be removed before. `watch` may be NULL. */
void idle_stop(struct idle_watch *watch);

void idle_init(struct idle_reader *reader, sqlite3_stmt *statement);
/* Encloses a poll. `idle_enter` returns false if the statement has expired; then `idle_leave` must not be called. */
bool idle_enter(struct idle_watch *watch, struct idle_reader *reader, uint64_t wake);
void idle_leave(struct idle_watch *watch, struct idle_reader *reader, bool reading, bool progress);
/* Removes a reader. Afterwards its statement can be finalised. */
void idle_remove(struct idle_watch *watch, struct idle_reader *reader);

#endif
