/*
 * Files: what stands in files, as streams.
 *
 * Request
 * -------
 *
 * Text: one or more glob patterns, one a line (\n or \r\n; empty lines are skipped), relative to `root`. At most
 * 64 KiB, 1,024 patterns, 128 components each. glob.h lists what they can say: `*`, `?`, `[a-z]`, `[!a-z]`, `\x`, and
 * `**` for any number of folders. A name that begins with a dot is only matched by a component that does. A pattern
 * that is absolute, has a component `..`, ends with `/` or cannot be parsed is a bad request.
 *
 * Answer
 * ------
 *
 * A source for each matching regular file, in the order of a sorted walk through the folders (by bytes, component by
 * component), each file once however many patterns match it. No match is an answer of no sources, not an error.
 * Symbolic links are never followed, below the root nor to leave it; fifos, sockets and devices are left out, folders
 * that may not be read too (with a line in the log).
 *
 * The header is a JSON object, with the size and the time of modification (UTC) as they were when the file was found:
 *
 *     {"path":"nginx/access.log","size":1234,"mtime":"2025-01-31T12:34:56.123456789Z"}
 *
 * In a path that is not UTF-8, U+FFFD stands for each byte that is not, and "path_base64" has the bytes themselves.
 *
 * The frames of a file concatenate to the file. A file is opened when its first frame is asked for; where it is gone by
 * then, is replaced or gets shorter while it is read, its source ends in an error. What is appended while it is read
 * is read too. A line longer than 100 MiB, a frame's limit, ends the source in an error.
 *
 * With `follow` a source has no end. A file that was truncated is read again from its beginning; one that was renamed
 * or removed is read on until its name means another file that is not empty, then it goes on there. Lines are sent
 * once their ending is there (the rest of a file that was rotated away is sent without); chunks as soon as there is
 * anything, so that they may be smaller than chunk_size. The files are those that matched when the request came.
 *
 * Configuration
 * -------------
 *
 *   key              type      default   meaning
 *   root             path      required  the folder below which files can be read; may itself be a symbolic link
 *   unit             string    lines     what a frame is: `lines` (up to and with \n) or `chunks` (chunk_size bytes)
 *   chunk_size       size      64KiB     bytes of a chunk, 1 to 100MiB; the last one of a file has what is left
 *   strip            boolean   false     drop the line ending, \n or \r\n; only with `unit: lines`
 *   follow           boolean   false     go on as `tail -F` does
 *   follow_interval  duration  1s        10ms to 1h: how long it may take to notice what the kernel does not report
 *                                        at once: that another file took the name, writes through a memory map, or
 *                                        from another machine
 *   open_files       integer   256       how many files one instance keeps open between polls, 0 to 1,000,000. The
 *                                        others are opened again for each poll, which is slower; with `follow`, what
 *                                        was written to them just before a rotation may be missed
 *
 * Blocking
 * --------
 *
 * Reading a regular file waits for its disk, so a poll may take as long as that; it reads at most 1 MiB (or one line,
 * or one chunk) before it returns. The memory of a poll is 64 KiB and the host's outgoing buffer, whatever the file.
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

/* How many steps of the walk one poll goes. */
#define POLL_STEPS 256

struct chanserv_call {
    chanserv_instance *files;
    atomic_bool cancelled;
    struct walk *walk;
    /* A source that was found but not taken yet, with its header. */
    chanserv_source *source;
    char *header;
    size_t header_size;
};

/* ---- Instances ---- */

/* Absence is not an error: the default stands. */
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
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "strip: chunks have no line ending that could be dropped");
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
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "root is missing: the folder below which files can be read");
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    *root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*root < 0) {
        fail_errno(error, errno, "cannot be the root", path);
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    return CHANSERV_READY;
}

/* Reads everything but the root, which has to be closed again, and starts the watcher last, which has to be stopped. */
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

/* Makes the source of a file that was found, to be offered. */
static chanserv_status find(chanserv_call *call, const char *path, const struct stat *status, chanserv_error *error) {
    call->header = header_json(path, status, &call->header_size);
    call->source = call->header == NULL ? NULL : source_new(call->files, path);
    if (call->source == NULL) {
        free(call->header);
        call->header = NULL;
        return fail(error, CHANSERV_ERROR_BUSY, "%s: no memory for its source", path);
    }
    return CHANSERV_READY;
}

/* Offers the source that was found last to the sink. */
static chanserv_status offer(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    chanserv_status status = sink->add(sink, call->header, call->header_size, call->source);
    if (status == CHANSERV_READY) {
        call->source = NULL;
        free(call->header);
        call->header = NULL;
    } else if (status != CHANSERV_FULL) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "a source was refused (%" PRId32 ")", status);
    }
    return status;
}

static chanserv_status walk_on(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
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
            status = find(call, path, &found, error);
            if (status != CHANSERV_READY) {
                return status;
            }
        }
        status = offer(call, sink, error);
        if (status != CHANSERV_READY) {
            return status == CHANSERV_FULL ? CHANSERV_READY : status;
        }
    }
    return CHANSERV_READY;
}

static chanserv_status files_poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    chanserv_status status = walk_on(call, sink, error);
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
