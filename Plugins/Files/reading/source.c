#define _GNU_SOURCE
#include "reading/source.h"

#include "fail.h"
#include "following/follower.h"
#include "reading/tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Maximum bytes of a poll, unless a frame is larger. The thread serves other sources too. */
#define POLL_BYTES ((size_t)1 << 20)
/* Cost in bytes of one check for more data. */
#define ROUND_COST ((size_t)4096)
/* Maximum memory of the decompressors that wait between two polls, in bytes. */
#define DECOMPRESSORS_MAX ((size_t)64 << 20)

struct chanserv_source {
    chanserv_instance *files;
    struct root *root;
    atomic_bool cancelled;
    /* The sink's handle, which cancel wakes. Valid if `polled` is set. */
    _Atomic uint64_t wake;
    atomic_bool polled;
    struct reader reader;
    uint64_t inode;
    bool kept;     /* its open file is counted in files->kept */
    bool followed;
    bool attached; /* it has a follower */
    struct follower follower;
    struct tail tail;
    const struct generation *searched_in; /* the generation in which the search has begun */
    /* What source_prepare failed with. The first poll returns it. */
    chanserv_status failure;
    char message[256];
    struct resume resume; /* `path` is NULL without one */
    char path[];
};

static void report_skipped(struct reader *reader, off_t from, off_t size, const char *reason) {
    chanserv_source *source = (chanserv_source *)((char *)reader - offsetof(chanserv_source, reader));
    follower_skipped(source->files->watcher, &source->follower, from, size, reason);
}

chanserv_source *source_new(chanserv_instance *files, struct root *root, const struct options *options,
                            const char *path, uint64_t inode) {
    size_t length = strlen(path);
    chanserv_source *source = calloc(1, sizeof *source + length + 1);
    if (source == NULL) {
        return NULL;
    }
    source->files = files;
    source->root = root_keep(root);
    source->inode = inode;
    source->tail.count = options->tail;
    source->reader.path = memcpy(source->path, path, length);
    source->reader.content.file = -1;
    source->reader.content.memory = &files->memory;
    source->reader.hole_end = -1;
    source->reader.skipped = report_skipped;
    if (options->decompress) {
        source->reader.content.compression = compression_of(path);
    }
    /* A compressed file is complete. */
    source->followed = files->watcher != NULL && options->follow &&
                       source->reader.content.compression == COMPRESSION_NONE;
    const struct resume *resume = options_resume(options, path);
    if (resume != NULL) {
        source->resume = *resume;
        source->resume.path = source->path;
        source->tail.count = -1;
    }
    return source;
}

/* ---- Descriptors ---- */

static void close_file(chanserv_source *source) {
    if (source->followed) {
        if (source->attached) {
            follower_rest(source->files->watcher, &source->follower, &source->reader);
        }
        return;
    }
    reader_close(&source->reader);
    if (source->kept) {
        source->kept = false;
        atomic_fetch_sub(&source->files->kept, 1);
    }
}

/*
 * Limits the open descriptors: ten thousand sources that a slow client reads in turns must not hold ten thousand of
 * them. The first files stay open between polls; the others are opened again in each poll. The tracker of a followed
 * file does that for all its sources.
 */
static void keep_or_close_file(chanserv_source *source) {
    content_limit(&source->reader.content, DECOMPRESSORS_MAX);
    if (source->followed) {
        close_file(source);
        return;
    }
    if (source->reader.content.file < 0 || source->kept) {
        return;
    }
    if (atomic_fetch_add(&source->files->kept, 1) < source->files->keep_max) {
        source->kept = true;
    } else {
        atomic_fetch_sub(&source->files->kept, 1);
        reader_close(&source->reader);
    }
}

static chanserv_status open_once(chanserv_source *source, chanserv_error *error) {
    struct reader *reader = &source->reader;
    if (reader->content.file >= 0) {
        return CHANSERV_READY;
    }
    bool begun = reader->known;
    char place[PATH_MAX];
    int folder = root_locate(source->root, source->path, place);
    int code = errno;
    enum open_result result = folder >= 0       ? reader_open(reader, folder, place)
                              : code == ENOENT || code == ELOOP ? OPEN_GONE
                                                                : OPEN_FAILED;
    switch (result) {
    case OPEN_NEW:
    case OPEN_AGAIN:
        return CHANSERV_READY;
    case OPEN_OTHER:
        return fail(error, CHANSERV_ERROR_NOT_FOUND, "%s: was replaced while it was read", source->path);
    case OPEN_GONE:
        return fail(error, CHANSERV_ERROR_NOT_FOUND, "%s: was removed %s it was read", source->path,
                    begun ? "while" : "before");
    case OPEN_FAILED:
        break;
    }
    return fail_errno(error, folder >= 0 ? errno : code, "cannot be opened", source->path);
}

static chanserv_status attach(chanserv_source *source, chanserv_error *error) {
    const struct resume *resume = source->resume.path != NULL ? &source->resume : NULL;
    chanserv_status status = follower_begin(source->files->watcher, &source->follower, source->root, source->path,
                                            resume, &source->reader, error);
    source->attached = status >= 0;
    return status;
}

/* ---- The position at which a source begins ---- */

/* Refuses a position inside a line: the file has other content than when the client read it. */
static chanserv_status check_position(chanserv_source *source, chanserv_error *error) {
    struct reader *reader = &source->reader;
    char before = '\n';
    if (source->files->cut.lines && reader->offset > 0 && reader->content.file >= 0 &&
        content_read(&reader->content, &before, 1, reader->offset - 1) == 1 && before != '\n') {
        return fail(error, CHANSERV_ERROR_NOT_FOUND,
                    "%s: cannot resume: the position is inside a line, so the file has other content now; request it "
                    "without a position",
                    source->path);
    }
    return CHANSERV_READY;
}

/* Begins at the position of the request in a file that is not followed. */
static chanserv_status resume_once(chanserv_source *source, chanserv_error *error) {
    struct reader *reader = &source->reader;
    chanserv_status status = open_once(source, error);
    if (status != CHANSERV_READY) {
        return status;
    }
    bool same = source->resume.inode == 0 || source->resume.inode == reader->is.inode;
    if (!same || (reader->content.compression == COMPRESSION_NONE && source->resume.offset > reader->is.size)) {
        return fail(error, CHANSERV_ERROR_NOT_FOUND,
                    "%s: cannot resume: it is not the file with inode %" PRIu64
                    ", or it is shorter than the position; request it without a position",
                    source->path, source->resume.inode);
    }
    reader->offset = source->resume.offset;
    return check_position(source, error);
}

/* Opens what a followed source reads first, for a search in it. */
static enum next_result open_followed(chanserv_source *source) {
    struct watcher *watcher = source->files->watcher;
    enum next_result next = follower_next(watcher, &source->follower, &source->reader, false, 0);
    follower_disarm(watcher, &source->follower);
    return next;
}

/* Begins at the last lines. */
static chanserv_status find_tail(chanserv_source *source, chanserv_error *error) {
    struct reader *reader = &source->reader;
    chanserv_status status = CHANSERV_READY;
    bool searches = true;
    if (source->followed) {
        enum next_result next = open_followed(source);
        bool other = source->tail.begun && source->follower.at != source->searched_in;
        searches = next != NEXT_WAIT && next != NEXT_DENIED && !other;
        source->searched_in = source->follower.at;
    } else {
        status = open_once(source, error);
    }
    if (status == CHANSERV_READY && searches) {
        status = tail_search(&source->tail, reader, source->followed ? reader->limit : reader->is.size,
                             source->followed && source->files->cut.lines, error);
    }
    source->tail.count = status == CHANSERV_READY ? -1 : source->tail.count;
    return status;
}

static chanserv_status prepare(chanserv_source *source, chanserv_error *error) {
    if (source->followed && !source->attached) {
        chanserv_status status = attach(source, error);
        if (status < 0) {
            return status;
        }
        if (status == CHANSERV_PENDING) {
            source->tail.count = -1; /* there is no file yet: all that comes is new */
        }
    }
    if (source->resume.path == NULL) {
        return source->tail.count < 0 ? CHANSERV_READY : find_tail(source, error);
    }
    if (!source->followed) {
        return resume_once(source, error);
    }
    return open_followed(source) == NEXT_DATA ? check_position(source, error) : CHANSERV_READY;
}

chanserv_status source_prepare(chanserv_source *source) {
    chanserv_error error = {.message = source->message, .capacity = sizeof source->message};
    chanserv_status status = prepare(source, &error);
    keep_or_close_file(source);
    if (status < 0) {
        source->failure = status;
    }
    return status == CHANSERV_PENDING ? CHANSERV_PENDING : CHANSERV_READY;
}

const char *source_path(const chanserv_source *source) {
    return source->path;
}

struct resume source_position(const chanserv_source *source) {
    if (source->attached) {
        return follower_position(source->files->watcher, &source->follower, source->reader.offset);
    }
    return (struct resume){.inode = source->inode, .offset = source->reader.offset};
}

static struct reading new_reading(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    return (struct reading){
        .reader = &source->reader, .cut = &source->files->cut, .budget = POLL_BYTES, .sink = sink, .error = error};
}

/* ---- Files that are read to their end ---- */

static chanserv_status read_once(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    struct reader *reader = &source->reader;
    chanserv_status failure = open_once(source, error);
    if (failure != CHANSERV_READY) {
        return failure;
    }
    struct reading reading = new_reading(source, sink, error);
    reading.whole = true;
    switch (reader_read(&reading)) {
    case READ_MORE:
    case READ_CHANGED:
        return CHANSERV_READY;
    case READ_END:
        failure = reader_check_whole(reader, error);
        return failure == CHANSERV_READY ? CHANSERV_END : failure;
    case READ_FAILED:
        break;
    }
    return reading.failure;
}

/* ---- Files that are followed ---- */

static chanserv_status follow(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    struct watcher *watcher = source->files->watcher;
    struct reader *reader = &source->reader;
    if (!source->attached) {
        chanserv_status status = attach(source, error);
        if (status < 0) {
            return status;
        }
    }
    struct reading reading = new_reading(source, sink, error);
    bool changed = false;
    while (reading.budget > 0) {
        enum next_result next = follower_next(watcher, &source->follower, reader, changed, sink->wake);
        changed = false;
        if (next == NEXT_WAIT) {
            return CHANSERV_PENDING;
        }
        if (next == NEXT_DENIED) {
            return fail_errno(error, errno, "cannot be opened", source->path);
        }
        reading.whole = next == NEXT_WHOLE;
        switch (reader_read(&reading)) {
        case READ_MORE:
            return CHANSERV_READY;
        case READ_FAILED:
            return reading.failure;
        case READ_CHANGED:
            changed = true;
            break;
        case READ_END:
            if (reader->content.compression != COMPRESSION_NONE) {
                follower_reached_end(watcher, &source->follower, reader);
            }
            break;
        }
        /* Bounds the loop for a file whose size promises bytes that cannot be read. */
        reading.budget -= reading.budget < ROUND_COST ? reading.budget : ROUND_COST;
    }
    return CHANSERV_READY;
}

/* ---- Functions of the descriptor ---- */

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    atomic_store(&source->wake, sink->wake);
    atomic_store(&source->polled, true);
    if (atomic_load(&source->cancelled)) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "%s: cancelled", source->path);
    }
    if (source->failure < 0) {
        return fail(error, source->failure, "%s", source->message);
    }
    chanserv_status status = source->followed ? follow(source, sink, error) : read_once(source, sink, error);
    if (status == CHANSERV_READY || status == CHANSERV_PENDING) {
        keep_or_close_file(source);
    } else {
        close_file(source);
    }
    return status;
}

void source_cancel(chanserv_source *source) {
    atomic_store(&source->cancelled, true);
    if (atomic_load(&source->polled)) {
        source->files->host->wake(source->files->host, atomic_load(&source->wake));
    }
}

void source_close(chanserv_source *source) {
    if (source->attached) {
        follower_end(source->files->watcher, &source->follower);
        source->reader.content.file = -1;
    } else {
        close_file(source);
    }
    content_drop(&source->reader.content);
    root_release(source->root);
    free(source);
}
