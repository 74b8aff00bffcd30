/*
 * SQLite: read-only SQL queries on one database file.
 *
 * Request
 * -------
 *
 * UTF-8 text of at most 1 MiB: one to `statements` SQL statements, separated by semicolons. Allowed are SELECT, VALUES,
 * WITH, EXPLAIN and the pragmas that describe the schema (authorize.c lists them). A statement that would change data
 * or the schema, attach another database, begin a transaction or load an extension is a bad request. An SQL error is a
 * bad request too; its message has SQLite's text and the position in the request, in bytes. The plugin prepares all
 * statements before it reads a row. Only statements about the schema (a pragma, also as a table) run code before that.
 *
 * Response
 * --------
 *
 * One source per statement, in the order of the statements. Each source has its own connection, so the statements run
 * in parallel, each at the speed of its reader. Each statement sees the database as it was when its first row was read:
 * two statements of one request may see different states. To read one consistent state, combine the statements into one
 * (for example with UNION ALL).
 *
 * The header is a JSON object with the statement's number and its columns. The type is the declared type, or null for a
 * computed column:
 *
 *     {"statement":0,"columns":[{"name":"id","type":"INTEGER"},{"name":"count(*)","type":null}]}
 *
 * Each row is one frame: a JSON array. It is not an object because column names may repeat and would make each row
 * larger.
 *
 *   SQLite    JSON
 *   NULL      null
 *   INTEGER   all digits; readers that use doubles lose precision beyond 2^53
 *   REAL      the shortest of 15 to 17 digits that reads back to the same number, with a point or an exponent; infinity
 *             is 9e999
 *   TEXT      a string; text that is not UTF-8 is {"text_base64":"…"}
 *   BLOB      {"base64":"…"}
 *
 * Configuration
 * -------------
 *
 *   key         type      default   meaning
 *   database    path      required  the database file
 *   immutable   boolean   false     promises that the file does not change: SQLite then takes no locks and looks for no
 *                                   journal or WAL file; if the file does change, results are wrong
 *   time_limit  duration  30s       maximum total work time of SQLite per statement, up to 24h; 0s: unlimited; the time
 *                                   of a slow reader does not count (use a route's `timeouts` for that)
 *   statements  integer   16        maximum statements per request, 1 to 1,000; each has a connection while it is read
 *   row_size    size      4MiB      maximum size of a row as JSON, 1KiB to 100MiB; also the maximum size of a text or
 *                                   blob inside SQLite, but at least 1MiB for those
 *   memory      size      64MiB     maximum memory that SQLite uses in this process, 16MiB to 64GiB
 *
 * While a statement is read, SQLite holds a read lock on the file. Without WAL mode, a writer waits for a slow reader.
 *
 * The plugin opens the file once at create, to check that it is a database, and then once per statement. The file must
 * be readable. For a file in WAL mode, SQLite also requires that its folder is writable, that the -shm file exists, or
 * that the file is `immutable`.
 *
 * Memory
 * ------
 *
 * Each open source uses a page cache of at most 2 MiB, one row, and the compiled statement. A compiled statement can be
 * much larger than its text: each WITH name that is used twice doubles it. Larger sorts use SQLite's temporary files.
 * `memory` limits the total of all instances in the process. If instances have different values, the largest applies
 * until the process ends. An allocation above the limit fails its request as busy, whichever request used the memory.
 *
 * Time
 * ----
 *
 * SQLite checks `time_limit` and cancellation between its instructions, not within one. A function call on a large text
 * is one instruction. SQLite's instr can take time proportional to the product of its two lengths; the plugin replaces
 * it with a faster one that checks the limit. The plugin also limits LIKE and GLOB patterns, text sizes (row_size) and
 * the depth of expressions. Other functions (replace, trim) can still exceed the limit by seconds. If clients are not
 * trusted, use `isolation: process`: kill_after and limits.address_space are then hard limits.
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
    size_t count, next; /* the number of sources; the index of the next one to add to a sink */
    chanserv_source *sources[];
};

/* ---- Instances ---- */

/* Returns whether a getter succeeded. An absent key is a success: the default applies. */
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
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "database is missing: set it to the path of the database file");
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    database->path = strdup(path);
    return database->path != NULL ? CHANSERV_READY : fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
}

/* Checks that the file is a readable database. */
static chanserv_status check_database(const struct database *database, chanserv_error *error) {
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
        return fail(error, CHANSERV_ERROR_INTERNAL, "the SQLite library of this machine is built without threads");
    }
    chanserv_status status = configure(&(*instance)->database, host, config, error);
    if (status == CHANSERV_READY) {
        limit_memory((*instance)->database.memory);
        status = check_database(&(*instance)->database, error);
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

/* Copies the request as zero-terminated text. Returns NULL and sets *status and the message if it is not valid. */
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
            return fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request has more than %zu statements (at byte %zu)",
                        database->statements, at - used);
        }
        call->sources[call->count++] = source;
    }
    return call->count > 0 ? CHANSERV_READY
                           : fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request has no statement");
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

/* Does nothing: polls of a call never wait, because open prepares all statements. */
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
