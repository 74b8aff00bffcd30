/*
 * Files: serves the contents of files as streams.
 *
 * Request
 * -------
 *
 * Text: one or more glob patterns, one in each line (\n or \r\n; empty lines are skipped), relative to `root`. At most
 * 64 KiB, 1,024 patterns, 128 components each. glob.h lists the syntax: `*`, `?`, `[a-z]`, `[!a-z]`, `\x`, and `**` for
 * any number of folders. A name that begins with a dot matches only a component that begins with a dot. A pattern that
 * is absolute, has a component `..`, ends with `/` or cannot be parsed is a bad request.
 *
 * Answer
 * ------
 *
 * One source for each matching regular file, in the order of a sorted walk through the folders (by bytes, component by
 * component). A file that matches several patterns has one source. A request without a match has no sources; this is
 * not an error. Symbolic links below the root are never followed, and cannot lead out of it. Fifos, sockets and devices
 * are skipped. Folders that are not readable are skipped with a log message.
 *
 * The header is a JSON object, with the size and the modification time (UTC) of the file when it was found:
 *
 *     {"path":"nginx/access.log","size":1234,"mtime":"2025-01-31T12:34:56.123456789Z"}
 *
 * In a path that is not UTF-8, U+FFFD replaces each invalid byte, and "path_base64" has the original bytes.
 *
 * The frames of a file concatenate to the file. A file is opened when its first frame is requested. If it has been
 * removed by then, or is replaced or truncated while it is read, its source ends with an error. Data that is appended
 * while the file is read is included. A line longer than 100 MiB, the maximum of a frame, ends the source with an
 * error.
 *
 * With `follow` a source does not end. A file that was truncated is read again from its beginning. A file that was
 * renamed or removed is read on until its name refers to another file that is not empty; reading continues there. Lines
 * are sent when their line ending has arrived; an incomplete last line of a rotated file is sent as it is. Chunks are
 * sent as soon as there is any data, so they may be smaller than chunk_size. Only files that matched when the request
 * arrived are followed.
 *
 * Configuration
 * -------------
 *
 *   key              type      default   meaning
 *   root             path      required  the folder below which files are served; may itself be a symbolic link
 *   unit             string    lines     content of a frame: `lines` (up to and with \n) or `chunks` (chunk_size bytes)
 *   chunk_size       size      64KiB     size of a chunk, 1 to 100MiB; the last chunk of a file may be smaller
 *   strip            boolean   false     removes the line ending, \n or \r\n; only with `unit: lines`
 *   follow           boolean   false     continues at the end of a file like `tail -F`
 *   follow_interval  duration  1s        10ms to 1h: maximum delay of changes that the kernel does not report at once:
 *                                        another file has taken the name, writes through a memory map, and writes on
 *                                        another machine
 *   open_files       integer   256       maximum files that an instance keeps open between polls, 0 to 1,000,000. Other
 *                                        files are opened again in each poll, which is slower. With `follow`, data that
 *                                        was written to them just before a rotation may be lost
 *
 * Blocking
 * --------
 *
 * Reading a regular file blocks until the disk has delivered the data, and a poll may take that long. A poll reads at
 * most 1 MiB, or one line or chunk if that is larger. It uses 64 KiB of memory and the host's outgoing buffer, whatever
 * the size of the file. A chunk of 64 KiB or more has its own memory, which is lent to the host.
 */
#define _GNU_SOURCE
#include "chanserv_plugin.h"
#include "fail.h"
#include "header.h"
#include "source.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Maximum steps of the walk in one poll. */
#define POLL_STEPS 256

struct chanserv_call {
    chanserv_instance *files;
    atomic_bool cancelled;
    struct walk *walk;
    /* A source that was found and not taken yet, and its header. */
    chanserv_source *source;
    char *header;
    size_t header_size;
};

/* ---- Instances ---- */

/* Treats an absent key as success: the default applies. Returns whether the getter succeeded. */
static bool read_well(chanserv_status *status) {
    if (*status == CHANSERV_ERROR_NOT_FOUND) {
        *status = CHANSERV_READY;
    }
    return *status == CHANSERV_READY;
}

static chanserv_status read_unit(const chanserv_host *host, const chanserv_config *config, struct cut *cut,
                                 chanserv_error *error) {
    const char *unit = "lines";
    size_t size = strlen(unit);
    chanserv_status status = host->config_string(host, config, "unit", &unit, &size, error);
    if (!read_well(&status)) {
        return status;
    }
    cut->lines = strcmp(unit, "lines") == 0;
    if (!cut->lines && strcmp(unit, "chunks") != 0) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "unit: %s is neither lines nor chunks", unit);
    }

    int32_t strip = 0;
    status = host->config_boolean(host, config, "strip", &strip, error);
    if (!read_well(&status)) {
        return status;
    }
    if (strip && !cut->lines) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "strip: only lines have line endings; it needs `unit: lines`");
    }
    cut->strip = strip != 0;

    uint64_t chunk_size = 65536;
    status = host->config_size(host, config, "chunk_size", &chunk_size, error);
    if (!read_well(&status)) {
        return status;
    }
    if (chunk_size < 1 || chunk_size > CHANSERV_FRAME_SIZE_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "chunk_size: %" PRIu64 " bytes are not between 1 and 100MiB",
                    chunk_size);
    }
    cut->chunk_size = (size_t)chunk_size;
    return CHANSERV_READY;
}

static chanserv_status read_root(const chanserv_host *host, const chanserv_config *config, int *root,
                                 chanserv_error *error) {
    const char *path;
    size_t size;
    chanserv_status status = host->config_path(host, config, "root", &path, &size, error);
    if (status == CHANSERV_ERROR_NOT_FOUND) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "root is missing: it must be the folder whose files are served");
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    *root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*root < 0) {
        fail_errno(error, errno, "cannot open the root folder", path);
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    return CHANSERV_READY;
}

/*
 * Reads the whole configuration. After success the caller must close the root and stop the watcher, which is started
 * last.
 */
static chanserv_status configure(chanserv_instance *files, const chanserv_config *config, chanserv_error *error) {
    static const char *const known[] = {"root",   "unit",            "chunk_size", "strip",
                                        "follow", "follow_interval", "open_files"};
    const chanserv_host *host = files->host;
    chanserv_status status = host->config_only(host, config, known, sizeof known / sizeof *known, error);
    if (status != CHANSERV_READY) {
        return status;
    }
    status = read_unit(host, config, &files->cut, error);
    if (status != CHANSERV_READY) {
        return status;
    }

    int64_t open_files = 256;
    status = host->config_integer(host, config, "open_files", &open_files, error);
    if (!read_well(&status)) {
        return status;
    }
    if (open_files < 0 || open_files > 1000000) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "open_files: %" PRId64 " is not between 0 and 1000000",
                    open_files);
    }
    files->keep_max = (size_t)open_files;

    int32_t follow = 0;
    status = host->config_boolean(host, config, "follow", &follow, error);
    if (!read_well(&status)) {
        return status;
    }
    int64_t interval = INT64_C(1000000000);
    status = host->config_duration(host, config, "follow_interval", &interval, error);
    if (!read_well(&status)) {
        return status;
    }
    if (interval < INT64_C(10000000) || interval > INT64_C(3600000000000)) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "follow_interval is not between 10ms and 1h");
    }

    status = read_root(host, config, &files->root, error);
    if (status != CHANSERV_READY || !follow) {
        return status;
    }
    files->watcher = watcher_start(host, interval, source_changed, error);
    if (files->watcher == NULL) {
        close(files->root);
        return CHANSERV_ERROR_INTERNAL;
    }
    return CHANSERV_READY;
}

static chanserv_status files_create(const chanserv_host *host, const chanserv_config *config,
                                    chanserv_instance **instance, chanserv_error *error) {
    chanserv_instance *files = calloc(1, sizeof *files);
    if (files == NULL) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
    }
    files->host = host;
    chanserv_status status = configure(files, config, error);
    if (status != CHANSERV_READY) {
        free(files);
        return status;
    }
    *instance = files;
    return CHANSERV_READY;
}

static void files_destroy(chanserv_instance *files) {
    if (files->watcher != NULL) {
        watcher_stop(files->watcher);
    }
    close(files->root);
    free(files);
}

/* ---- Calls ---- */

static chanserv_status files_open(chanserv_instance *files, const chanserv_request *request, chanserv_call **call,
                                  chanserv_error *error) {
    struct globs globs;
    chanserv_status status = globs_parse(&globs, request->body, request->body_size, error);
    if (status != CHANSERV_READY) {
        return status;
    }
    struct walk *walk = walk_new(files->root, &globs, files->host);
    *call = calloc(1, sizeof **call);
    if (walk == NULL || *call == NULL) {
        if (walk != NULL) {
            walk_free(walk);
        }
        free(*call);
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
    }
    (*call)->files = files;
    (*call)->walk = walk;
    return CHANSERV_READY;
}

/* Creates the source of a file that was found, and its header. */
static chanserv_status make_source(chanserv_call *call, const char *path, const struct stat *status,
                                   chanserv_error *error) {
    call->header = header_json(path, status, &call->header_size);
    call->source = call->header == NULL ? NULL : source_new(call->files, path);
    if (call->source == NULL) {
        free(call->header);
        call->header = NULL;
        return fail(error, CHANSERV_ERROR_BUSY, "%s: no memory for its source", path);
    }
    return CHANSERV_READY;
}

/* Adds the source that was found last to the sink. */
static chanserv_status add_source(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    chanserv_status status = sink->add(sink, call->header, call->header_size, call->source);
    if (status == CHANSERV_READY) {
        call->source = NULL;
        free(call->header);
        call->header = NULL;
    } else if (status != CHANSERV_FULL) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "the host refused a source (status %" PRId32 ")", status);
    }
    return status;
}

static chanserv_status add_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    for (int i = 0; i < POLL_STEPS; i++) {
        if (atomic_load(&call->cancelled)) {
            return fail(error, CHANSERV_ERROR_INTERNAL, "cancelled");
        }
        chanserv_status status = CHANSERV_ERROR_INTERNAL;
        if (call->source == NULL) {
            const char *path;
            struct stat found;
            switch (walk_step(call->walk, &path, &found, &status, error)) {
            case WALK_STEP:
                continue;
            case WALK_END:
                return CHANSERV_END;
            case WALK_FAILED:
                return status;
            case WALK_FILE:
                break;
            }
            status = make_source(call, path, &found, error);
            if (status != CHANSERV_READY) {
                return status;
            }
        }
        status = add_source(call, sink, error);
        if (status != CHANSERV_READY) {
            return status == CHANSERV_FULL ? CHANSERV_READY : status;
        }
    }
    return CHANSERV_READY;
}

static chanserv_status files_poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    chanserv_status status = add_sources(call, sink, error);
    walk_rest(call->walk);
    return status;
}

static void files_cancel_call(chanserv_call *call) {
    atomic_store(&call->cancelled, true);
}

static void files_close_call(chanserv_call *call) {
    if (call->source != NULL) {
        source_close(call->source);
    }
    free(call->header);
    walk_free(call->walk);
    free(call);
}

/* ---- The descriptor ---- */

static const chanserv_plugin files_plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    .flags = 0,
    .name = "files",
    .version = "1.0.0",
    .create = files_create,
    .destroy = files_destroy,
    .open = files_open,
    .poll_sources = files_poll_sources,
    .cancel_call = files_cancel_call,
    .close_call = files_close_call,
    .poll_frames = source_poll,
    .cancel_source = source_cancel,
    .close_source = source_close,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) {
    return &files_plugin;
}
