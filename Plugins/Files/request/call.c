#define _GNU_SOURCE
#include "request/call.h"

#include "fail.h"
#include "folders/walk.h"
#include "following/watching/folder_watch.h"
#include "patterns/glob.h"
#include "reading/source.h"
#include "request/header.h"
#include "request/paths.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
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

void call_close(chanserv_call *call) {
    if (call->source != NULL) {
        source_close(call->source);
    }
    if (call->folders != NULL) {
        folder_watch_end(call->files->watcher, call->folders);
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
    folder_watch_add(call->files->watcher, call->folders, folder);
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
        folder_watch_begin(files->watcher, call->folders);
        walk_begin(call->walk, entered, call);
    }
    return CHANSERV_READY;
}

chanserv_status call_open(chanserv_instance *files, const chanserv_request *request, chanserv_call **result,
                                  chanserv_error *error) {
    chanserv_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return fail(error, CHANSERV_ERROR_BUSY, "no memory for the request");
    }
    call->files = files;
    chanserv_status status = begin(call, request, error);
    if (status != CHANSERV_READY) {
        call_close(call);
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

/* Remembers that the file has a source. */
static chanserv_status remember(chanserv_call *call, const char *path, chanserv_error *error) {
    switch (paths_add(&call->paths, path)) {
    case PATHS_ADDED:
        return CHANSERV_READY;
    case PATHS_FULL:
        return fail(error, CHANSERV_ERROR_BUSY,
                    "more than %d files match; a request that waits for new files cannot have more", PATHS_MAX);
    case PATHS_NO_MEMORY:
        break;
    }
    return fail(error, CHANSERV_ERROR_BUSY, "no memory for the names of files");
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
        bool known = file >= 0 && identify(file, &is) == 0 && folder_watch_knows(call->files->watcher, &is);
        if (file >= 0) {
            close(file);
        }
        if (known) {
            return false;
        }
    }
    *status = remember(call, path, error);
    return *status == CHANSERV_READY;
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
            *status = remember(call, resume->path, error);
        }
        return true;
    }
    return false;
}

/* The walk has ended. Returns the result of the poll, or CHANSERV_READY if the walk begins again. */
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
    if (folder_watch_arm(call->files->watcher, call->folders, sink->wake)) {
        return CHANSERV_PENDING;
    }
    walk_begin(call->walk, entered, call);
    return CHANSERV_READY;
}

/*
 * Makes one step to the next source. Returns CHANSERV_READY, with or without one; otherwise the result of the poll.
 */
static chanserv_status find_source(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    chanserv_status status = CHANSERV_ERROR_INTERNAL;
    const char *path;
    struct stat found;
    switch (walk_step(call->walk, &path, &found, &status, error)) {
    case WALK_STEP:
        return CHANSERV_READY;
    case WALK_FAILED:
        return status;
    case WALK_END:
        return !call->walked && take_absent(call, &status, error) ? status : end_walk(call, sink, error);
    case WALK_FILE:
        break;
    }
    if (!is_wanted(call, path, &status, error)) {
        return status;
    }
    if (!call->waits && options_resume(&call->options, path) != NULL) {
        status = remember(call, path, error);
    }
    return status == CHANSERV_READY ? make_source(call, path, &found, error) : status;
}

static chanserv_status add_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    for (int i = 0; i < POLL_STEPS; i++) {
        if (atomic_load(&call->cancelled)) {
            return fail(error, CHANSERV_ERROR_INTERNAL, "cancelled");
        }
        chanserv_status status = call->source == NULL ? find_source(call, sink, error) : CHANSERV_READY;
        if (status != CHANSERV_READY) {
            return status;
        }
        if (call->source == NULL) {
            continue;
        }
        status = add_source(call, sink, error);
        if (status != CHANSERV_READY) {
            return status == CHANSERV_FULL || status == CHANSERV_PENDING ? CHANSERV_READY : status;
        }
    }
    return CHANSERV_READY;
}

chanserv_status call_poll(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    atomic_store(&call->wake, sink->wake);
    atomic_store(&call->polled, true);
    chanserv_status status = add_sources(call, sink, error);
    walk_rest(call->walk);
    return status;
}

void call_cancel(chanserv_call *call) {
    atomic_store(&call->cancelled, true);
    if (call->waits && atomic_load(&call->polled)) {
        call->files->host->wake(call->files->host, atomic_load(&call->wake));
    }
}
