/*
 * Files: serves the contents of files as streams.
 *
 * Request
 * -------
 *
 * Text: one or more glob patterns, one in each line (\n or \r\n; empty lines are skipped), relative to `root`. At most
 * 64 KiB, 1,024 patterns, 128 components each. glob.h lists the syntax: `*`, `?`, `[a-z]`, `[!a-z]`, `{a,b}`, `\x`, and
 * `**` for any number of folders. A name that begins with a dot matches only a component that begins with a dot. A line
 * that begins with `!` leaves out the files that match. A pattern that is absolute, has a component `..`, ends with `/`
 * or cannot be parsed is a bad request.
 *
 * The first line may have options as a JSON object; options.h lists them.
 *
 * Answer
 * ------
 *
 * One source for each matching regular file, in the order of a sorted walk through the folders (by bytes, component by
 * component). A file that matches several patterns has one source. A request without a match has no sources; this is
 * not an error, unless it has left out symbolic links. Symbolic links below the root are followed only if they lead
 * into a folder of `follow_links`. Nothing outside of these folders is ever opened. Fifos, sockets and devices are
 * skipped. Folders that are not readable are skipped with a log message.
 *
 * The header is a JSON object, with the size and the modification time (UTC) of the file when it was found:
 *
 *     {"path":"nginx/access.log","size":1234,"mtime":"2025-01-31T12:34:56.123456789Z"}
 *
 * In a path that is not UTF-8, U+FFFD replaces each invalid byte, and "path_base64" has the original bytes. If the file
 * is followed or the request has options, "inode" and "offset" are the position at which the source begins; with both,
 * "stream" makes it exact. After the client has added the number of bytes that it has received to "offset", the header
 * is a position for `resume`.
 *
 * The frames of a file concatenate to the file. A file is opened when its first frame is requested. If it has been
 * removed by then, or is replaced or truncated while it is read, its source ends with an error. Data that is appended
 * while the file is read is included. A line longer than 100 MiB, the maximum of a frame, ends the source with an
 * error.
 *
 * With `follow` a source does not end. follow.h describes how it continues across rotations and truncations. Lines are
 * sent when their line ending has arrived; an incomplete last line of a rotated file is sent as it is. A line longer
 * than 100 MiB, and a hole that a truncation left, are skipped with a warning. Chunks are sent as soon as there is any
 * data, so they may be smaller than chunk_size. With `new_files` the list of sources does not end either: files that
 * begin to match get sources.
 *
 * Configuration
 * -------------
 *
 *   key              type      default   meaning
 *   root             path      required  the folder below which files are served; may itself be a symbolic link,
 *                                        which is resolved for each request
 *   unit             string    lines     content of a frame: `lines` (up to and with \n) or `chunks` (chunk_size bytes)
 *   chunk_size       size      64KiB     size of a chunk, 1 to 100MiB; the last chunk of a file may be smaller
 *   strip            boolean   false     removes the line ending, \n or \r\n; only with `unit: lines`
 *   decompress       boolean   false     sends the content of .gz and .zst files
 *   follow_links     paths     none      symbolic links into these folders are followed
 *   follow           boolean   false     continues at the end of a file like `tail -F`
 *   new_files        boolean   false     with `follow`: also sends files that begin to match later
 *   follow_interval  duration  1s        10ms to 1h: maximum delay of changes that the kernel does not report at once:
 *                                        another file has taken the name, writes through a memory map, and writes on
 *                                        another machine
 *   resume_window    duration  30s       0s to 1h: how long rotated files stay open for clients that resume
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
#include "options.h"
#include "paths.h"
#include "root.h"
#include "source.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Maximum steps of the walk in one poll. */
#define POLL_STEPS 256

struct chanserv_call {
    chanserv_instance *files;
    atomic_bool cancelled;
    _Atomic uint64_t wake; /* the sink's handle, which cancel wakes; valid if `polled` is set */
    atomic_bool polled;
    struct root *root;
    struct options options;
    struct globs globs, excluded;
    struct walk *walk;
    bool walked;       /* the walk has ended */
    size_t resumed;    /* the positions before it have been looked at for files that are absent now */
    size_t found;      /* number of sources */
    bool waits;        /* the request waits for new files */
    struct folder_watch *folders;
    struct paths paths; /* the files that were found, if the request waits for new ones */
    /* A source that was found and not taken yet, and its header. */
    chanserv_source *source;
    bool prepared;
    struct stat status;
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

static chanserv_status read_roots(const chanserv_host *host, const chanserv_config *config, struct roots *roots,
                                  chanserv_error *error) {
    const char *path;
    size_t size, count = 0;
    chanserv_status status = host->config_path(host, config, "root", &path, &size, error);
    if (status == CHANSERV_ERROR_NOT_FOUND) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "root is missing: it must be the folder whose files are served");
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    roots->path = strdup(path);
    status = host->config_count(host, config, "follow_links", &count, error);
    if (!read_well(&status)) {
        return status;
    }
    if (count > LINK_FOLDERS_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "follow_links has %zu folders; at most %d are allowed", count,
                    LINK_FOLDERS_MAX);
    }
    bool complete = roots->path != NULL;
    for (size_t i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "follow_links.%zu", i);
        status = host->config_path(host, config, key, &path, &size, error);
        if (status != CHANSERV_READY) {
            return status;
        }
        roots->link[roots->links] = strdup(path);
        complete &= roots->link[roots->links++] != NULL;
    }
    if (!complete) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
    }
    struct root *root = roots_open(roots, &status, error);
    if (root == NULL) {
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    for (size_t i = 0; i < root->links; i++) {
        if (root->link[i].folder < 0) {
            log_line(host, CHANSERV_LOG_WARNING,
                     "follow_links: %s cannot be opened: links into it are left out until it exists", roots->link[i]);
        }
    }
    root_release(root);
    return CHANSERV_READY;
}

static chanserv_status read_boolean(const chanserv_host *host, const chanserv_config *config, const char *key,
                                    bool *value, chanserv_error *error) {
    int32_t flag = 0;
    chanserv_status status = host->config_boolean(host, config, key, &flag, error);
    *value = flag != 0;
    read_well(&status);
    return status;
}

/*
 * Reads the whole configuration. After success the caller must stop the watcher, which is started last. The caller
 * always frees the roots.
 */
static chanserv_status configure(chanserv_instance *files, const chanserv_config *config, chanserv_error *error) {
    static const char *const known[] = {"root",         "unit",       "chunk_size", "strip",
                                        "follow",       "new_files",  "decompress", "follow_interval",
                                        "follow_links", "open_files", "resume_window"};
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

    struct options *defaults = &files->defaults;
    defaults->tail = -1;
    status = read_boolean(host, config, "follow", &defaults->follow, error);
    if (status == CHANSERV_READY) {
        status = read_boolean(host, config, "new_files", &defaults->new_files, error);
    }
    if (status == CHANSERV_READY) {
        status = read_boolean(host, config, "decompress", &defaults->decompress, error);
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    if (defaults->new_files && !defaults->follow) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "new_files: only a request that follows waits for new files; it "
                                                       "needs `follow: true`");
    }
    int64_t interval = INT64_C(1000000000), window = INT64_C(30000000000);
    status = host->config_duration(host, config, "follow_interval", &interval, error);
    if (!read_well(&status)) {
        return status;
    }
    if (interval < INT64_C(10000000) || interval > INT64_C(3600000000000)) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "follow_interval is not between 10ms and 1h");
    }
    status = host->config_duration(host, config, "resume_window", &window, error);
    if (!read_well(&status)) {
        return status;
    }
    if (window < 0 || window > INT64_C(3600000000000)) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "resume_window is not between 0s and 1h");
    }

    status = read_roots(host, config, &files->roots, error);
    if (status != CHANSERV_READY || !defaults->follow) {
        return status;
    }
    struct follow_limits limits = {
        .interval = interval, .window = window, .open_files = files->keep_max, .open = &files->kept};
    files->watcher = watcher_start(host, &limits, error);
    return files->watcher == NULL ? CHANSERV_ERROR_INTERNAL : CHANSERV_READY;
}

static chanserv_status files_create(const chanserv_host *host, const chanserv_config *config,
                                    chanserv_instance **instance, chanserv_error *error) {
    chanserv_instance *files = calloc(1, sizeof *files);
    if (files == NULL) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
    }
    files->host = host;
    pthread_mutex_init(&files->roots.lock, NULL);
    chanserv_status status = configure(files, config, error);
    if (status != CHANSERV_READY) {
        roots_free(&files->roots);
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
    roots_free(&files->roots);
    free(files);
}

/* ---- Calls ---- */

static void files_close_call(chanserv_call *call) {
    if (call->source != NULL) {
        source_close(call->source);
    }
    if (call->folders != NULL) {
        watcher_remove_request(call->files->watcher, call->folders);
        free(call->folders);
    }
    if (call->walk != NULL) {
        walk_free(call->walk);
    }
    if (call->root != NULL) {
        root_release(call->root);
    }
    paths_free(&call->paths);
    globs_free(&call->globs);
    globs_free(&call->excluded);
    options_free(&call->options);
    free(call->header);
    free(call);
}

/* Called for each folder that the walk enters. */
static void entered(void *context, int folder) {
    chanserv_call *call = context;
    watcher_watch_folder(call->files->watcher, call->folders, folder);
}

static chanserv_status begin(chanserv_call *call, const chanserv_request *request, chanserv_error *error) {
    chanserv_instance *files = call->files;
    size_t used;
    call->options = files->defaults;
    chanserv_status status = options_parse(&call->options, request->body, request->body_size, &used, error);
    if (status != CHANSERV_READY) {
        return status;
    }
    status = globs_parse(&call->globs, &call->excluded, (const char *)request->body + used, request->body_size - used,
                         used > 0 ? 2 : 1, error);
    if (status != CHANSERV_READY) {
        return status;
    }
    call->root = roots_open(&files->roots, &status, error);
    if (call->root == NULL) {
        return status;
    }
    call->walk = walk_new(call->root, &call->globs, &call->excluded, files->host);
    call->waits = call->options.new_files && call->options.follow;
    if (call->waits) {
        call->folders = malloc(sizeof *call->folders);
    }
    if (call->walk == NULL || (call->waits && call->folders == NULL)) {
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
    }
    if (call->waits) {
        watcher_add_request(files->watcher, call->folders);
        walk_begin(call->walk, entered, call);
    }
    return CHANSERV_READY;
}

static chanserv_status files_open(chanserv_instance *files, const chanserv_request *request, chanserv_call **result,
                                  chanserv_error *error) {
    chanserv_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
    }
    call->files = files;
    chanserv_status status = begin(call, request, error);
    if (status != CHANSERV_READY) {
        files_close_call(call);
        return status;
    }
    *result = call;
    return CHANSERV_READY;
}

/* Creates the source of a file that was found. */
static chanserv_status make_source(chanserv_call *call, const char *path, const struct stat *status,
                                   chanserv_error *error) {
    struct options options = call->options;
    if (call->walked) {
        options.tail = -1; /* all of a file that is new */
    }
    call->source = source_new(call->files, call->root, &options, path, status->st_ino);
    call->status = *status;
    /* A new file may be rotated before its first poll, so it is opened now. */
    call->prepared = !call->options.given && !call->walked;
    call->found++;
    return call->source != NULL ? CHANSERV_READY
                                : fail(error, CHANSERV_ERROR_BUSY, "%s: no memory for its source", path);
}

/* Adds the source that was found last to the sink. Returns CHANSERV_PENDING if it is not prepared yet. */
static chanserv_status add_source(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    if (!call->prepared) {
        if (source_prepare(call->source) == CHANSERV_PENDING) {
            return CHANSERV_PENDING;
        }
        call->prepared = true;
    }
    if (call->header == NULL) {
        bool positioned = call->options.given || (call->files->watcher != NULL && call->options.follow);
        struct resume position = source_position(call->source);
        call->header = header_json(source_path(call->source), &call->status, positioned ? &position : NULL,
                                   &call->header_size);
        if (call->header == NULL) {
            return fail(error, CHANSERV_ERROR_BUSY, "%s: no memory for its header", source_path(call->source));
        }
    }
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

/*
 * Whether a file that the walk has found gets a source. A request that waits for new files walks several times. A
 * rotated file that is read as part of another source is not new.
 */
static bool is_wanted(chanserv_call *call, const char *path, chanserv_status *status, chanserv_error *error) {
    *status = CHANSERV_READY;
    if (!call->waits) {
        return true;
    }
    if (paths_have(&call->paths, path)) {
        return false;
    }
    if (call->walked) {
        struct identity is;
        int file = root_open(call->root, path, O_PATH);
        bool known = file >= 0 && identify(file, &is) == 0 && watcher_knows(call->files->watcher, &is);
        if (file >= 0) {
            close(file);
        }
        if (known) {
            return false;
        }
    }
    switch (paths_add(&call->paths, path)) {
    case PATHS_ADDED:
        return true;
    case PATHS_FULL:
        *status = fail(error, CHANSERV_ERROR_BUSY,
                       "more than %d files match; a request that waits for new files cannot have more", PATHS_MAX);
        return false;
    case PATHS_NO_MEMORY:
        break;
    }
    *status = fail(error, CHANSERV_ERROR_BUSY, "no memory for the names of files");
    return false;
}

/*
 * Makes a source for a position whose file has no name at the moment, because it is being rotated. Returns whether
 * there was one.
 */
static bool take_absent(chanserv_call *call, chanserv_status *status, chanserv_error *error) {
    while (call->files->watcher != NULL && call->options.follow && call->resumed < call->options.resumes) {
        const struct resume *resume = &call->options.resume[call->resumed++];
        if (paths_have(&call->paths, resume->path) || !globs_match_path(&call->globs, resume->path) ||
            globs_match_path(&call->excluded, resume->path)) {
            continue;
        }
        struct stat none = {0};
        *status = make_source(call, resume->path, &none, error);
        if (*status == CHANSERV_READY) {
            paths_add(&call->paths, resume->path);
        }
        return true;
    }
    return false;
}

/* The walk has ended. Returns the status of the poll, or CHANSERV_FULL if the walk begins again. */
static chanserv_status end_walk(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    size_t count;
    const char *link = walk_left_out(call->walk, &count);
    if (link != NULL && !call->walked) {
        log_line(call->files->host, CHANSERV_LOG_INFO, "%s was left out: a symbolic link (%zu in this request)", link,
                 count);
    }
    if (link != NULL && call->found == 0 && !call->waits) {
        return fail(error, CHANSERV_ERROR_NOT_FOUND,
                    "%s was left out: a symbolic link (%zu in this request); add the folder of its target to "
                    "follow_links",
                    link, count);
    }
    call->walked = true;
    if (!call->waits) {
        return CHANSERV_END;
    }
    if (watcher_arm_request(call->files->watcher, call->folders, sink->wake)) {
        return CHANSERV_PENDING;
    }
    walk_begin(call->walk, entered, call);
    return CHANSERV_FULL;
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
                if (!call->walked && take_absent(call, &status, error)) {
                    break;
                }
                status = end_walk(call, sink, error);
                if (status == CHANSERV_FULL) {
                    continue;
                }
                return status;
            case WALK_FAILED:
                return status;
            case WALK_FILE:
                if (!is_wanted(call, path, &status, error)) {
                    if (status != CHANSERV_READY) {
                        return status;
                    }
                    continue;
                }
                if (call->options.resumes > 0 && !call->waits && options_resume(&call->options, path) != NULL) {
                    paths_add(&call->paths, path);
                }
                status = make_source(call, path, &found, error);
                break;
            }
            if (status != CHANSERV_READY) {
                return status;
            }
        }
        status = add_source(call, sink, error);
        if (status != CHANSERV_READY) {
            return status == CHANSERV_FULL || status == CHANSERV_PENDING ? CHANSERV_READY : status;
        }
    }
    return CHANSERV_READY;
}

static chanserv_status files_poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    atomic_store(&call->wake, sink->wake);
    atomic_store(&call->polled, true);
    chanserv_status status = add_sources(call, sink, error);
    walk_rest(call->walk);
    return status;
}

static void files_cancel_call(chanserv_call *call) {
    atomic_store(&call->cancelled, true);
    if (call->waits && atomic_load(&call->polled)) {
        call->files->host->wake(call->files->host, atomic_load(&call->wake));
    }
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
