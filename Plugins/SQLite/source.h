/* A source: one statement of a request. */
#ifndef SQLITE_SOURCE_H
#define SQLITE_SOURCE_H

#include "chanserv_plugin.h"
#include "database.h"
#include "idle.h"
#include "json.h"

struct chanserv_source {
    struct connection connection; /* its own connection, because statements run in parallel */
    sqlite3_stmt *statement;
    struct idle_watch *watch; /* NULL without idle_limit */
    struct idle_reader idle;
    struct json row; /* the row that the sink has not taken yet, or empty */
    bool has_row;
};

/*
 * Prepares the first statement of `sql`, which has `size` bytes, is zero-terminated and stands at `offset` of the
 * request. Sets *used to the number of bytes that were read. Sets *source to NULL if only comments and semicolons are
 * left.
 */
chanserv_status source_prepare(const struct database *database, struct idle_watch *watch, const char *sql, size_t size,
                               size_t offset, size_t *used, chanserv_source **source, chanserv_error *error);
/* Writes {"statement":0,"columns":[{"name":"id","type":"INTEGER"},…]}. The caller frees it with json_free. */
chanserv_status source_header(chanserv_source *source, size_t number, struct json *header, chanserv_error *error);

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_close(chanserv_source *source);

#endif
