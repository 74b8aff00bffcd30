#include "source.h"

#include "fail.h"

#include <stdlib.h>
#include <string.h>

/* A row that took longer than this, in nanoseconds, is sent at once, because the next one may take as long. */
#define SLOW_ROW INT64_C(1000000)
/* Maximum time of a poll in nanoseconds. */
#define POLL_TIME_MAX INT64_C(20000000)

chanserv_status source_prepare(const struct database *database, struct idle_watch *watch, const char *sql, size_t size,
                               size_t offset, size_t *used, chanserv_source **result, chanserv_error *error) {
    *result = NULL;
    chanserv_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
    }
    source->watch = watch;
    struct connection *connection = &source->connection;
    source->row.bound = database->row_size;
    chanserv_status status = connection_open(connection, database, error);
    if (status != CHANSERV_READY) {
        free(source);
        return status;
    }
    const char *tail = sql;
    connection_begin(connection);
    int code = sqlite3_prepare_v2(connection->handle, sql, (int)size + 1, &source->statement, &tail);
    connection_rest(connection);
    idle_init(&source->idle, source->statement);
    *used = (size_t)(tail - sql);
    if (code != SQLITE_OK) {
        status = connection_fail(connection, code, offset, error);
    } else if (source->statement != NULL && !sqlite3_stmt_readonly(source->statement)) {
        /* The authorizer should have refused the statement. This is a second, independent check. */
        status = fail(error, CHANSERV_ERROR_BAD_REQUEST, "a change is refused: the database is read-only");
    }
    if (status != CHANSERV_READY || source->statement == NULL) {
        source_close(source);
        return status;
    }
    *result = source;
    return CHANSERV_READY;
}

chanserv_status source_header(chanserv_source *source, size_t number, struct json *header, chanserv_error *error) {
    *header = (struct json){.bound = CHANSERV_FRAME_SIZE_MAX};
    json_raw(header, "{\"statement\":");
    json_integer(header, (int64_t)number);
    json_raw(header, ",\"columns\":[");
    for (int i = 0; i < sqlite3_column_count(source->statement); i++) {
        const char *name = sqlite3_column_name(source->statement, i);
        const char *type = sqlite3_column_decltype(source->statement, i);
        header->no_memory |= name == NULL;
        json_raw(header, i == 0 ? "{\"name\":" : ",{\"name\":");
        json_text(header, name != NULL ? name : "", name != NULL ? strlen(name) : 0);
        json_raw(header, ",\"type\":");
        if (type != NULL) {
            json_text(header, type, strlen(type));
        } else {
            json_raw(header, "null");
        }
        json_raw(header, "}");
    }
    json_raw(header, "]}");
    if (header->is_over || header->no_memory) {
        json_free(header);
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the names of the columns");
    }
    return CHANSERV_READY;
}

static void write_value(struct json *row, sqlite3_stmt *statement, int column) {
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        json_integer(row, sqlite3_column_int64(statement, column));
        break;
    case SQLITE_FLOAT:
        json_real(row, sqlite3_column_double(statement, column));
        break;
    case SQLITE_TEXT: {
        const char *text = (const char *)sqlite3_column_text(statement, column);
        row->no_memory |= text == NULL;
        json_text(row, text != NULL ? text : "", (size_t)sqlite3_column_bytes(statement, column));
        break;
    }
    case SQLITE_BLOB: {
        const void *bytes = sqlite3_column_blob(statement, column);
        json_blob(row, bytes, (size_t)sqlite3_column_bytes(statement, column));
        break;
    }
    default:
        json_raw(row, "null");
    }
}

static chanserv_status write_row(chanserv_source *source, chanserv_error *error) {
    struct json *row = &source->row;
    json_clear(row);
    json_raw(row, "[");
    for (int i = 0; i < sqlite3_data_count(source->statement); i++) {
        if (i > 0) {
            json_raw(row, ",");
        }
        write_value(row, source->statement, i);
    }
    json_raw(row, "]");
    if (row->no_memory) {
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for a row");
    }
    if (row->is_over) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "a row is larger than row_size (%zu bytes)", row->bound);
    }
    source->has_row = true;
    return CHANSERV_READY;
}

/* Sends rows until the sink is full, the poll has taken long, or there are no more rows. */
static chanserv_status send_rows(chanserv_source *source, chanserv_frame_sink *sink, bool *progress,
                                 chanserv_error *error) {
    struct connection *connection = &source->connection;
    int64_t begun = connection->begun, last = begun;
    for (;;) {
        if (source->has_row) {
            chanserv_status status = sink->append(sink, source->row.bytes, source->row.size);
            if (status != CHANSERV_READY) {
                return status == CHANSERV_FULL ? CHANSERV_READY
                                               : fail(error, status, "a row is larger than a frame can be");
            }
            source->has_row = false;
            *progress = true;
            int64_t now = monotonic_now();
            if (now - last > SLOW_ROW || now - begun > POLL_TIME_MAX) {
                return CHANSERV_READY;
            }
            last = now;
        }
        if (atomic_load(&connection->cancelled)) {
            return fail(error, CHANSERV_ERROR_INTERNAL, "cancelled");
        }
        int code = sqlite3_step(source->statement);
        if (code == SQLITE_DONE) {
            return CHANSERV_END;
        }
        chanserv_status status = code == SQLITE_ROW ? write_row(source, error)
                                                    : connection_fail(connection, code, 0, error);
        if (status != CHANSERV_READY) {
            return status;
        }
    }
}

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    if (!idle_enter(source->watch, &source->idle, sink->wake)) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST,
                    "ended: the client took no row for %g seconds (idle_limit), and the statement would have kept the "
                    "database locked",
                    (double)source->connection.database->idle_limit / 1e9);
    }
    bool progress = false;
    connection_begin(&source->connection);
    chanserv_status status = send_rows(source, sink, &progress, error);
    connection_rest(&source->connection);
    if (status != CHANSERV_READY) {
        /* Ends the read transaction now, not when the client has received the frames. */
        sqlite3_reset(source->statement);
    }
    idle_leave(source->watch, &source->idle, status == CHANSERV_READY, progress);
    return status;
}

void source_cancel(chanserv_source *source) {
    connection_interrupt(&source->connection);
}

void source_close(chanserv_source *source) {
    idle_remove(source->watch, &source->idle);
    sqlite3_finalize(source->statement);
    connection_close(&source->connection);
    json_free(&source->row);
    free(source);
}
