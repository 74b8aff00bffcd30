/* One statement of a request as a source. */
#ifndef SQLITE_SOURCE_H
#define SQLITE_SOURCE_H

#include "chanserv_plugin.h"
#include "database.h"
#include "json.h"

struct chanserv_source {
    struct connection connection; /* its own: statements run side by side */
    sqlite3_stmt *statement;
    struct json row; /* read and not taken yet, or empty */
    bool has_row;
};

/*
 * Prepares the first statement of `sql` (`size` bytes at `offset` of the request, zero-terminated). *source is NULL where
 * nothing but comments and semicolons is left; *used is how much of it was read.
 */
chanserv_status source_prepare(const struct database *database, const char *sql, size_t size, size_t offset,
                               size_t *used, chanserv_source **source, chanserv_error *error);
/* {"statement":0,"columns":[{"name":"id","type":"INTEGER"},…]}, to be freed with json_free. */
chanserv_status source_header(chanserv_source *source, size_t number, struct json *header, chanserv_error *error);

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_close(chanserv_source *source);

#endif
