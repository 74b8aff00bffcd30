#define _GNU_SOURCE
#include "source.h"

#include "fail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Maximum bytes of a poll, unless a frame is larger. The thread serves other sources too. */
#define POLL_BYTES ((size_t)1 << 20)
/* Cost in bytes of one check for more data. */
#define ROUND_COST ((size_t)4096)
/* Size of one read while the position is searched, in bytes. */
#define BLOCK ((size_t)65536)
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
    /* The search for the position at which the last lines begin. */
    int64_t tail; /* number of lines; -1: no search */
    bool searching;
    off_t searched, end; /* the end of what was not searched yet, or the number of searched bytes; the file's end */
    int64_t lines;
    const struct generation *searched_in;
    /* What source_prepare failed with. The first poll returns it. */
    chanserv_status failure;
    char message[256];
    struct resume resume; /* `path` is NULL without one */
    char path[];
};

static void report_skipped(struct reader *reader, off_t from, off_t size, const char *reason) {
    chanserv_source *source = (chanserv_source *)((char *)reader - offsetof(chanserv_source, reader));
    watcher_skipped(source->files->watcher, &source->follower, from, size, reason);
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
    source->tail = options->tail;
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
        source->tail = -1;
    }
    return source;
}

/* ---- Descriptors ---- */

static void close_file(chanserv_source *source) {
    if (source->followed) {
        if (source->attached) {
            watcher_rest(source->files->watcher, &source->follower, &source->reader);
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
    chanserv_status status = watcher_follow(source->files->watcher, &source->follower, source->root, source->path,
                                            resume, &source->reader, error);
    source->attached = status >= 0;
    return status;
}

/* ---- The position at which a source begins ---- */

/* Reads one block of the search. Returns the number of bytes, or -1 and errno. */
static ssize_t read_block(struct reader *reader, char *block, off_t offset, off_t end) {
    off_t left = end - offset;
    return content_read(&reader->content, block, left < (off_t)BLOCK ? (size_t)left : BLOCK, offset);
}

/* Searches backwards for the line endings before the last lines. */
static chanserv_status search_backwards(chanserv_source *source, char *block, chanserv_error *error) {
    struct reader *reader = &source->reader;
    for (size_t budget = POLL_BYTES; budget >= BLOCK && source->searched > 0; budget -= BLOCK) {
        off_t begin = source->searched > (off_t)BLOCK ? source->searched - (off_t)BLOCK : 0;
        ssize_t count = read_block(reader, block, begin, source->searched);
        if (count < 0) {
            return fail_errno(error, errno, "cannot be read", source->path);
        }
        if (begin + count < source->searched) {
            /* It was truncated meanwhile. */
            reader->offset = 0;
            source->searching = false;
            return CHANSERV_READY;
        }
        for (ssize_t i = count; i > 0; i--) {
            /* The line ending at the end of the file ends the last line. */
            if (block[i - 1] == '\n' && (begin + i < source->end || source->tail == 0) && source->lines-- <= 1) {
                reader->offset = begin + i;
                source->searching = false;
                return CHANSERV_READY;
            }
        }
        source->searched = begin;
    }
    if (source->searched > 0) {
        return CHANSERV_PENDING;
    }
    reader->offset = 0;
    source->searching = false;
    return CHANSERV_READY;
}

/*
 * Counts the lines of a compressed file from its beginning, and then passes those that are not the last ones.
 * `lines` is negative in the second pass.
 */
static chanserv_status search_forwards(chanserv_source *source, char *block, chanserv_error *error) {
    struct reader *reader = &source->reader;
    for (size_t budget = POLL_BYTES; budget >= BLOCK; budget -= BLOCK) {
        ssize_t count = read_block(reader, block, source->searched, INT64_MAX);
        if (count < 0 && errno == EBADMSG) {
            return fail(error, CHANSERV_ERROR_BAD_REQUEST, "%s: cannot be decompressed: %s", source->path,
                        reader->content.problem);
        }
        if (count < 0) {
            return fail_errno(error, errno, "cannot be read", source->path);
        }
        for (ssize_t i = 0; i < count && source->lines < 0; i++) {
            if (block[i] == '\n' && ++source->lines == 0) {
                reader->offset = source->searched + i + 1;
                source->searching = false;
                return CHANSERV_READY;
            }
        }
        if (count > 0) {
            for (ssize_t i = 0; i < count && source->end >= 0; i++) {
                source->lines += block[i] == '\n';
            }
            source->searched += count;
            if (source->end >= 0) {
                source->end = block[count - 1] == '\n' ? 0 : 1; /* lines without an ending */
            }
            continue;
        }
        int64_t passed = source->lines + source->end - source->tail;
        if (source->tail == 0 || passed <= 0) {
            reader->offset = source->tail == 0 ? source->searched : 0;
            source->searching = false;
            return CHANSERV_READY;
        }
        source->lines = -passed;
        source->end = -1;
        source->searched = 0;
    }
    return CHANSERV_PENDING;
}

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

static chanserv_status prepare(chanserv_source *source, chanserv_error *error) {
    struct reader *reader = &source->reader;
    if (source->followed && !source->attached) {
        chanserv_status status = attach(source, error);
        if (status < 0) {
            return status;
        }
        if (status == CHANSERV_PENDING) {
            source->tail = -1; /* there is no file yet: all that comes is new */
        }
    }
    if (source->tail < 0 && source->resume.path == NULL) {
        return CHANSERV_READY;
    }
    if (source->followed) {
        enum next_result next = watcher_next(source->files->watcher, &source->follower, reader, false, 0);
        watcher_disarm(source->files->watcher, &source->follower);
        if (source->resume.path != NULL) {
            return next == NEXT_DATA ? check_position(source, error) : CHANSERV_READY;
        }
        bool other = source->searching && source->follower.at != source->searched_in;
        if (next == NEXT_WAIT || next == NEXT_DENIED || other) {
            source->tail = -1;
            return CHANSERV_READY;
        }
        source->searched_in = source->follower.at;
    } else {
        chanserv_status status = open_once(source, error);
        if (status != CHANSERV_READY) {
            return status;
        }
    }
    if (source->resume.path != NULL) {
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
    bool backwards = reader->content.compression == COMPRESSION_NONE;
    if (!source->searching) {
        source->searching = true;
        source->end = !backwards ? 0 : source->followed ? reader->limit : reader->is.size;
        source->searched = backwards ? source->end : 0;
        source->lines = backwards ? source->tail : 0;
        if (source->tail == 0 && backwards && (!source->followed || !source->files->cut.lines)) {
            reader->offset = source->end;
            source->searching = false;
        }
    }
    chanserv_status status = CHANSERV_READY;
    if (source->searching) {
        char *block = malloc(BLOCK);
        if (block == NULL) {
            return fail_errno(error, ENOMEM, "no memory to find its last lines", source->path);
        }
        status = backwards ? search_backwards(source, block, error) : search_forwards(source, block, error);
        free(block);
    }
    if (status == CHANSERV_READY) {
        source->tail = -1;
    }
    return status;
}

chanserv_status source_prepare(chanserv_source *source) {
    chanserv_error error = {.message = source->message, .capacity = sizeof source->message};
    chanserv_status status = prepare(source, &error);
    if (status != CHANSERV_PENDING || !source->followed) {
        keep_or_close_file(source);
    } else {
        close_file(source);
    }
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
        return watcher_position(source->files->watcher, &source->follower, source->reader.offset);
    }
    return (struct resume){.inode = source->inode, .offset = source->reader.offset};
}

/* ---- Files that are read to their end ---- */

static chanserv_status read_once(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    struct reader *reader = &source->reader;
    chanserv_status failure = open_once(source, error);
    if (failure != CHANSERV_READY) {
        return failure;
    }
    size_t budget = POLL_BYTES;
    failure = CHANSERV_ERROR_INTERNAL;
    switch (reader_read(reader, &source->files->cut, true, &budget, sink, &failure, error)) {
    case READ_MORE:
    case READ_CHANGED:
        return CHANSERV_READY;
    case READ_END:
        failure = reader_check_whole(reader, error);
        return failure == CHANSERV_READY ? CHANSERV_END : failure;
    case READ_FAILED:
        break;
    }
    return failure;
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
    size_t budget = POLL_BYTES;
    bool changed = false;
    while (budget > 0) {
        chanserv_status failure = CHANSERV_ERROR_INTERNAL;
        enum next_result next = watcher_next(watcher, &source->follower, reader, changed, sink->wake);
        changed = false;
        if (next == NEXT_WAIT) {
            return CHANSERV_PENDING;
        }
        if (next == NEXT_DENIED) {
            return fail_errno(error, errno, "cannot be opened", source->path);
        }
        switch (reader_read(reader, &source->files->cut, next == NEXT_WHOLE, &budget, sink, &failure, error)) {
        case READ_MORE:
            return CHANSERV_READY;
        case READ_FAILED:
            return failure;
        case READ_CHANGED:
            changed = true;
            break;
        case READ_END:
            if (reader->content.compression != COMPRESSION_NONE) {
                watcher_reached_end(watcher, &source->follower, reader);
            }
            break;
        }
        /* Bounds the loop for a file whose size promises bytes that cannot be read. */
        budget -= budget < ROUND_COST ? budget : ROUND_COST;
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
        watcher_forget(source->files->watcher, &source->follower);
        source->reader.content.file = -1;
    } else {
        close_file(source);
    }
    content_drop(&source->reader.content);
    root_release(source->root);
    free(source);
}
