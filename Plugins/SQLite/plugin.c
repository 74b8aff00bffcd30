/*
 * SQLite: a database, to be asked in SQL.
 *
 * Request
 * -------
 *
 * UTF-8 text: one or more SQL statements with semicolons between them, at most 1 MiB and `statements` of them. SELECT,
 * VALUES, WITH, EXPLAIN, and pragmas that tell of the schema (authorize.c lists them). Whatever would change something,
 * attach another database, begin a transaction or load an extension is a bad request, and so is what SQLite does not
 * understand, with its message and the byte of the request it is about. All statements are prepared before any row is
 * read; only what tells of the schema (a pragma, also as a table) has SQLite work before that.
 *
 * Answer
 * ------
 *
 * A source for each statement, in their order. Each has a connection of its own, so they run side by side as fast as they
 * are read, and each sees the database as it was at its first row: two statements of one request may see different
 * states. Statements that must agree are to be made one (with UNION ALL, say).
 *
 * The header is a JSON object with the statement's number and its columns; the type is the declared one, null for what
 * was computed:
 *
 *     {"statement":0,"columns":[{"name":"id","type":"INTEGER"},{"name":"count(*)","type":null}]}
 *
 * Each row is a frame: a JSON array, for names of columns may repeat and would only cost room in each row.
 *
 *   SQLite    JSON
 *   NULL      null
 *   INTEGER   all its digits; readers whose numbers are doubles lose those past 2^53
 *   REAL      as few digits as read back to the very number, with a point or an exponent; infinity is 9e999
 *   TEXT      a string; text that is not UTF-8 is {"text_base64":"…"}
 *   BLOB      {"base64":"…"}
 *
 * Configuration
 * -------------
 *
 *   key         type      default   meaning
 *   database    path      required  the file
 *   immutable   boolean   false     nobody changes the file, so nothing is locked and nothing beside it is looked for;
 *                                   where somebody does change it, answers are wrong
 *   time_limit  duration  30s       how long SQLite may work on a statement in all, up to 24h, 0s is without end; the time
 *                                   a slow reader takes does not count (a route's `timeouts` are for that)
 *   statements  integer   16        statements of a request, 1 to 1,000; each is a connection while it is read
 *   row_size    size      4MiB      bytes of a row as JSON, 1KiB to 100MiB; also of a text or blob on the way to it, which
 *                                   may always have 1MiB
 *   memory      size      64MiB     what SQLite may use in this process, 16MiB to 64GiB
 *
 * While a statement is read the file is locked for reading: without WAL mode who writes waits for a slow reader.
 *
 * The file is opened when the plugin is made, to see that it is a database, and for each statement. It must be readable,
 * and where it is in WAL mode its folder writable or the -shm file there, or it must be `immutable`: SQLite asks for that.
 *
 * Memory
 * ------
 *
 * Of each source that is open: a page cache of at most 2 MiB, one row, and what the statement is compiled to, which can be
 * far more than its text: names of WITH that are used twice each double it. Sorting what is larger goes through SQLite's
 * temporary files. All of that together, of all instances in the process, stays below `memory`: of several instances the
 * largest is what holds, until the process ends. What finds no memory fails as busy, whichever request it is of.
 *
 * Time
 * ----
 *
 * `time_limit` and a cancel are looked at between SQLite's instructions, so not within one: a function over a large text
 * is one instruction. instr, which may take a time that is the product of two lengths, is replaced by one that does not
 * and looks at the limit; patterns of LIKE and GLOB are bounded, and so are texts (row_size) and the depth of an
 * expression. What is left (replace, trim) can still take seconds past the limit. Where SQL comes from those who are not
 * trusted, serve it with `isolation: process`: kill_after is the limit that holds, and limits.address_space.
 */
#define _GNU_SOURCE
#include "chanserv_plugin.h"
#include "database.h"
#include "fail.h"
#include "json.h"
#include "limits.h"
#include "source.h"
#include "utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_DEFAULT (UINT64_C(64) << 20)
#define MEMORY_MIN (UINT64_C(16) << 20)
#define MEMORY_MAX (UINT64_C(64) << 30)

struct chanserv_instance {
    struct database database;
};

struct chanserv_call {
    size_t count, next; /* sources, and which is announced next */
    chanserv_source *sources[];
};

/* ---- Instances ---- */

/* Absence is not an error: the default stands. */
static bool read_well(chanserv_status *status) {
    if (*status == CHANSERV_ERROR_NOT_FOUND) {
        *status = CHANSERV_READY;
    }
    return *status == CHANSERV_READY;
}

static chanserv_status configure(struct database *database, const chanserv_host *host, const chanserv_config *config,
                                 chanserv_error *error) {
    static const char *const known[] = {"database", "immutable", "time_limit", "statements", "row_size", "memory"};
    int32_t immutable = 0;
    int64_t time_limit = INT64_C(30000000000), statements = 16;
    uint64_t row_size = 4 << 20, memory = MEMORY_DEFAULT;
    chanserv_status status = host->config_only(host, config, known, sizeof known / sizeof *known, error);
    if (status != CHANSERV_READY) {
        return status;
    }
    status = host->config_boolean(host, config, "immutable", &immutable, error);
    if (!read_well(&status)) {
        return status;
    }
    status = host->config_duration(host, config, "time_limit", &time_limit, error);
    if (!read_well(&status)) {
        return status;
    }
    if (time_limit < 0 || time_limit > INT64_C(86400000000000)) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "time_limit is not between 0s and 24h");
    }
    status = host->config_integer(host, config, "statements", &statements, error);
    if (!read_well(&status)) {
        return status;
    }
    if (statements < 1 || statements > 1000) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "statements: %" PRId64 " is not between 1 and 1000", statements);
    }
    status = host->config_size(host, config, "row_size", &row_size, error);
    if (!read_well(&status)) {
        return status;
    }
    if (row_size < 1024 || row_size > CHANSERV_FRAME_SIZE_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "row_size: %" PRIu64 " bytes are not between 1KiB and 100MiB",
                    row_size);
    }
    status = host->config_size(host, config, "memory", &memory, error);
    if (!read_well(&status)) {
        return status;
    }
    if (memory < MEMORY_MIN || memory > MEMORY_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "memory: %" PRIu64 " bytes are not between 16MiB and 64GiB",
                    memory);
    }
    database->memory = memory;
    database->immutable = immutable != 0;
    database->time_limit = time_limit;
    database->statements = (size_t)statements;
    database->row_size = (size_t)row_size;

    const char *path;
    size_t size;
    status = host->config_path(host, config, "database", &path, &size, error);
    if (status == CHANSERV_ERROR_NOT_FOUND) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "database is missing: the file that is to be read");
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    database->path = strdup(path);
    return database->path != NULL ? CHANSERV_READY : fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
}

/* Whether it is a database that can be read. */
static chanserv_status try_out(const struct database *database, chanserv_error *error) {
    struct connection connection;
    char reason[256] = "";
    chanserv_error inner = {.message = reason, .capacity = sizeof reason};
    if (connection_open(&connection, database, &inner) != CHANSERV_READY) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "database: %s: %s", database->path, reason);
    }
    connection_close(&connection);
    return CHANSERV_READY;
}

static void sqlite_destroy(chanserv_instance *instance) {
    free(instance->database.path);
    free(instance);
}

static chanserv_status sqlite_create(const chanserv_host *host, const chanserv_config *config,
                                     chanserv_instance **instance, chanserv_error *error) {
    *instance = calloc(1, sizeof **instance);
    if (*instance == NULL) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
    }
    if (sqlite3_threadsafe() == 0) {
        sqlite_destroy(*instance);
        return fail(error, CHANSERV_ERROR_INTERNAL, "this machine's SQLite is built for one thread only");
    }
    chanserv_status status = configure(&(*instance)->database, host, config, error);
    if (status == CHANSERV_READY) {
        limit_memory((*instance)->database.memory);
        status = try_out(&(*instance)->database, error);
    }
    if (status != CHANSERV_READY) {
        sqlite_destroy(*instance);
    }
    return status;
}

/* ---- Calls ---- */

static void sqlite_close_call(chanserv_call *call) {
    for (; call->next < call->count; call->next++) {
        source_close(call->sources[call->next]);
    }
    free(call);
}

/* The request as a text that ends in a zero; NULL, with a message, where it is none. */
static char *copy_request(const chanserv_request *request, chanserv_status *status, chanserv_error *error) {
    const char *body = request->body;
    if (request->body_size > REQUEST_SIZE_MAX) {
        *status = fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request is larger than %zu bytes", REQUEST_SIZE_MAX);
        return NULL;
    }
    for (size_t at = 0, length; at < request->body_size; at += length) {
        length = utf8_length(body + at, request->body_size - at);
        if (length == 0 || body[at] == '\0') {
            *status = fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request is not UTF-8 text (at byte %zu)", at);
            return NULL;
        }
    }
    char *sql = malloc(request->body_size + 1);
    if (sql == NULL) {
        *status = fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
        return NULL;
    }
    memcpy(sql, body, request->body_size);
    sql[request->body_size] = '\0';
    return sql;
}

static chanserv_status prepare_all(chanserv_call *call, const struct database *database, const char *sql, size_t size,
                                   chanserv_error *error) {
    size_t at = 0, used = 0;
    while (at < size) {
        chanserv_source *source;
        chanserv_status status = source_prepare(database, sql + at, size - at, at, &used, &source, error);
        if (status != CHANSERV_READY) {
            return status;
        }
        at += used;
        if (source == NULL) {
            continue;
        }
        if (call->count == database->statements) {
            source_close(source);
            return fail(error, CHANSERV_ERROR_BAD_REQUEST, "there are more than %zu statements (at byte %zu)",
                        database->statements, at - used);
        }
        call->sources[call->count++] = source;
    }
    return call->count > 0 ? CHANSERV_READY
                           : fail(error, CHANSERV_ERROR_BAD_REQUEST, "there is no statement in the request");
}

static chanserv_status sqlite_open(chanserv_instance *instance, const chanserv_request *request, chanserv_call **result,
                                   chanserv_error *error) {
    const struct database *database = &instance->database;
    chanserv_status status = CHANSERV_READY;
    char *sql = copy_request(request, &status, error);
    if (sql == NULL) {
        return status;
    }
    chanserv_call *call = calloc(1, sizeof *call + database->statements * sizeof *call->sources);
    status = call != NULL ? prepare_all(call, database, sql, request->body_size, error)
                          : fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
    free(sql);
    if (status == CHANSERV_READY) {
        *result = call;
    } else if (call != NULL) {
        sqlite_close_call(call);
    }
    return status;
}

static chanserv_status sqlite_poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    while (call->next < call->count) {
        chanserv_source *source = call->sources[call->next];
        struct json header;
        chanserv_status status = source_header(source, call->next, &header, error);
        if (status != CHANSERV_READY) {
            return status;
        }
        status = sink->add(sink, header.bytes, header.size, source);
        json_free(&header);
        if (status != CHANSERV_READY) {
            return status == CHANSERV_FULL ? CHANSERV_READY : fail(error, status, "a header is too large");
        }
        call->next++;
    }
    return CHANSERV_END;
}

/* No poll of a call waits: all was prepared when it was opened. */
static void sqlite_cancel_call(chanserv_call *call) {
    (void)call;
}

/* ---- The descriptor ---- */

static const chanserv_plugin sqlite_plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    .flags = CHANSERV_PLUGIN_BLOCKING,
    .name = "sqlite",
    .version = "1.0.0",
    .create = sqlite_create,
    .destroy = sqlite_destroy,
    .open = sqlite_open,
    .poll_sources = sqlite_poll_sources,
    .cancel_call = sqlite_cancel_call,
    .close_call = sqlite_close_call,
    .poll_frames = source_poll,
    .cancel_source = source_cancel,
    .close_source = source_close,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) {
    return &sqlite_plugin;
}
