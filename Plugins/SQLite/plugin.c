/*
 * SQLite: serves a database, which clients query in SQL.
 *
 * Request
 * -------
 *
 * UTF-8 text: one or more SQL statements with semicolons between them, at most 1 MiB and `statements` of them. Allowed
 * are SELECT, VALUES, WITH, EXPLAIN, and pragmas that return information about the schema (authorize.c lists them). A
 * statement that would change data, attach another database, begin a transaction or load an extension is a bad request.
 * So is a statement that SQLite does not understand; the message is SQLite's, with the position in the request in
 * bytes. All statements are prepared before any row is read. Only statements about the schema (a pragma, also as a
 * table) do work before that.
 *
 * Answer
 * ------
 *
 * One source for each statement, in their order. Each has its own connection, so the sources run in parallel, as fast
 * as the client reads them. Each sees the database as it was at its first row: two statements of one request may see
 * different states. Statements that must be consistent have to be combined into one, for example with UNION ALL.
 *
 * The header is a JSON object with the number of the statement and its columns. The type is the declared type, or null
 * for a computed column:
 *
 *     {"statement":0,"columns":[{"name":"id","type":"INTEGER"},{"name":"count(*)","type":null}]}
 *
 * Each row is a frame: a JSON array, because column names may repeat and would take space in each row.
 *
 *   SQLite    JSON
 *   NULL      null
 *   INTEGER   all its digits; readers that use doubles lose those beyond 2^53
 *   REAL      as few of 15 to 17 digits as read back to the same double, with a point or an exponent; infinity is 9e999
 *   TEXT      a string; text that is not UTF-8 is {"text_base64":"…"}
 *   BLOB      {"base64":"…"}
 *
 * Configuration
 * -------------
 *
 *   key         type      default   meaning
 *   database    path      required  the file
 *   immutable   boolean   false     the file never changes, so SQLite takes no locks and looks for no journal files;
 *                                   if the file does change, results are wrong
 *   time_limit  duration  30s       maximum working time of SQLite for a statement, up to 24h; 0s: no limit; time that
 *                                   a slow client takes does not count (use the route's `timeouts` for that)
 *   idle_limit  duration  30s       maximum time for which a client may take no row of a statement, up to 24h; then the
 *                                   statement ends and its lock is released; 0s: no limit
 *   statements  integer   16        maximum statements of a request, 1 to 1,000; each uses a connection while it is
 *                                   read
 *   row_size    size      4MiB      maximum bytes of a row as JSON, 1KiB to 100MiB; also limits the texts and blobs of
 *                                   which a row is made, but not below 1MiB
 *   memory      size      64MiB     maximum memory of SQLite in this process, 16MiB to 64GiB
 *
 * While a statement is read, the file is locked for reading. Without WAL mode, writers wait for a slow client, at most
 * `idle_limit` if it takes no rows.
 *
 * The file is opened when the plugin is created, to check that it is a database, and for each statement. It must be
 * readable. In WAL mode SQLite also requires one of these: its folder is writable, the -shm file exists, or it is
 * `immutable`.
 *
 * Memory
 * ------
 *
 * Each open source uses a page cache of at most 2 MiB, one row, and the compiled statement. The latter can be far
 * larger than its text: each name of WITH that is used twice doubles it. Large sorts use SQLite's temporary files. The
 * memory of all instances in the process together stays below `memory`. If there are several instances, the largest
 * `memory` applies, until the process ends. A request that finds no memory fails as busy, whichever request uses the
 * memory.
 *
 * Time
 * ----
 *
 * `time_limit` and a cancellation are checked between SQLite's instructions, not within one, and a function over a
 * large text is one instruction. instr, whose time is the product of two lengths, is replaced by a function that is
 * faster and checks the limit. Patterns of LIKE and GLOB, texts (row_size) and the depth of an expression are limited.
 * The remaining functions (replace, trim) can still exceed the limit by seconds. If the SQL comes from untrusted
 * clients, use `isolation: process`, whose kill_after is a hard limit, and limits.address_space.
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
    struct idle_watch *watch; /* NULL without idle_limit */
};

struct chanserv_call {
    size_t count, next; /* the number of sources, and the index of the next to be announced */
    chanserv_source *sources[];
};

/* ---- Instances ---- */

/* Treats an absent key as success: the default applies. Returns whether the getter succeeded. */
static bool read_well(chanserv_status *status) {
    if (*status == CHANSERV_ERROR_NOT_FOUND) {
        *status = CHANSERV_READY;
    }
    return *status == CHANSERV_READY;
}

static chanserv_status configure(struct database *database, const chanserv_host *host, const chanserv_config *config,
                                 chanserv_error *error) {
    static const char *const known[] = {"database",   "immutable", "time_limit", "idle_limit",
                                        "statements", "row_size",  "memory"};
    int32_t immutable = 0;
    int64_t time_limit = INT64_C(30000000000), idle_limit = INT64_C(30000000000), statements = 16;
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
    status = host->config_duration(host, config, "idle_limit", &idle_limit, error);
    if (!read_well(&status)) {
        return status;
    }
    if (idle_limit < 0 || idle_limit > INT64_C(86400000000000)) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "idle_limit is not between 0s and 24h");
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
    database->idle_limit = idle_limit;
    database->statements = (size_t)statements;
    database->row_size = (size_t)row_size;

    const char *path;
    size_t size;
    status = host->config_path(host, config, "database", &path, &size, error);
    if (status == CHANSERV_ERROR_NOT_FOUND) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "database is missing: it must be the path of an SQLite file");
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    database->path = strdup(path);
    return database->path != NULL ? CHANSERV_READY : fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
}

/* Checks that the file is a database and can be read. */
static chanserv_status check_database(const struct database *database, chanserv_error *error) {
    struct connection connection;
    char reason[512] = "";
    chanserv_error inner = {.message = reason, .capacity = sizeof reason};
    if (connection_open(&connection, database, &inner) != CHANSERV_READY) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "database: %s: %s", database->path, reason);
    }
    connection_close(&connection);
    return CHANSERV_READY;
}

static void sqlite_destroy(chanserv_instance *instance) {
    idle_stop(instance->watch);
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
        status = check_database(&(*instance)->database, error);
    }
    if (status == CHANSERV_READY && (*instance)->database.idle_limit > 0) {
        (*instance)->watch = idle_start(host, (*instance)->database.idle_limit, error);
        status = (*instance)->watch != NULL ? CHANSERV_READY : CHANSERV_ERROR_INTERNAL;
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

/* Returns the request as a zero-terminated text; NULL, with a message, if it is not a valid text. */
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

static chanserv_status prepare_all(chanserv_call *call, chanserv_instance *instance, const char *sql, size_t size,
                                   chanserv_error *error) {
    const struct database *database = &instance->database;
    size_t at = 0, used = 0;
    while (at < size) {
        chanserv_source *source;
        chanserv_status status =
            source_prepare(database, instance->watch, sql + at, size - at, at, &used, &source, error);
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
    status = call != NULL ? prepare_all(call, instance, sql, request->body_size, error)
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

/* No poll of a call waits, because open has prepared everything. */
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
