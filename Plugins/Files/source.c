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

struct chanserv_source {
    chanserv_instance *files;
    atomic_bool cancelled;
    /* The sink's handle, which cancel wakes. Valid if `polled` is set. */
    _Atomic uint64_t wake;
    atomic_bool polled;
    struct reader reader;
    bool kept;    /* its open file is counted in files->kept */
    bool begun;   /* it was opened before */
    bool leaving; /* another file has the name now: the rest of this one is read first */
    struct follower follower;
    char path[];
};

chanserv_source *source_new(chanserv_instance *files, const char *path) {
    size_t length = strlen(path);
    chanserv_source *source = calloc(1, sizeof *source + length + 1);
    if (source != NULL) {
        source->files = files;
        source->reader.path = memcpy(source->path, path, length);
        source->reader.file = -1;
        source->follower = FOLLOWER_NONE;
    }
    return source;
}

bool source_changed(struct follower *follower) {
    chanserv_source *source = (chanserv_source *)((char *)follower - offsetof(chanserv_source, follower));
    return reader_look(&source->reader, source->files->root) != LOOK_SAME;
}

/* ---- Descriptors ---- */

static void close_file(chanserv_source *source) {
    reader_close(&source->reader);
    if (source->kept) {
        source->kept = false;
        atomic_fetch_sub(&source->files->kept, 1);
    }
}

/*
 * Limits the open descriptors: ten thousand sources that a slow client reads in turns must not hold ten thousand of
 * them. The first files stay open between polls; the others are opened again in each poll.
 */
static void keep_or_close_file(chanserv_source *source) {
    if (source->reader.file < 0 || source->kept) {
        return;
    }
    if (atomic_fetch_add(&source->files->kept, 1) < source->files->keep_max) {
        source->kept = true;
    } else {
        atomic_fetch_sub(&source->files->kept, 1);
        reader_close(&source->reader);
    }
}

/* ---- Files that are read to their end ---- */

static chanserv_status read_once(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    struct reader *reader = &source->reader;
    if (reader->file < 0) {
        bool begun = reader->known;
        switch (reader_open(reader, source->files->root)) {
        case OPEN_NEW:
        case OPEN_AGAIN:
            break;
        case OPEN_OTHER:
            return fail(error, CHANSERV_ERROR_NOT_FOUND, "%s: was replaced while it was read", source->path);
        case OPEN_GONE:
            return fail(error, CHANSERV_ERROR_NOT_FOUND, "%s: was removed %s it was read", source->path,
                        begun ? "while" : "before");
        case OPEN_FAILED:
            return fail_errno(error, errno, "cannot be opened", source->path);
        }
    }
    size_t budget = POLL_BYTES;
    chanserv_status failure = CHANSERV_ERROR_INTERNAL;
    switch (reader_read(reader, &source->files->cut, true, &budget, sink, &failure, error)) {
    case READ_MORE:
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

/*
 * Opens the file that has the source's name now. Returns CHANSERV_PENDING if there is none, or if it has replaced the
 * file that was read and is not readable yet: a log rotation sets the group and mode of the new file last.
 */
static chanserv_status open_followed(chanserv_source *source, chanserv_error *error) {
    struct reader *reader = &source->reader;
    enum open_result result = reader_open(reader, source->files->root);
    int code = errno;
    source->begun |= reader->file >= 0;
    switch (result) {
    case OPEN_AGAIN:
        return CHANSERV_READY;
    case OPEN_OTHER:
        log_line(source->files->host, CHANSERV_LOG_WARNING,
                 "%s: was rotated while more files than open_files were followed; the last data of the old file "
                 "may be missing",
                 source->path);
        source->leaving = false;
        watcher_watch(source->files->watcher, &source->follower, reader->file);
        return CHANSERV_READY;
    case OPEN_NEW:
        watcher_watch(source->files->watcher, &source->follower, reader->file);
        return CHANSERV_READY;
    case OPEN_GONE:
        return CHANSERV_PENDING;
    case OPEN_FAILED:
        if (source->begun && (code == EACCES || code == EPERM)) {
            return CHANSERV_PENDING;
        }
        break;
    }
    return fail_errno(error, code, "cannot be opened", source->path);
}

/* Moves to the place where `look` found more data. */
static void handle_change(chanserv_source *source, enum look_result look) {
    struct reader *reader = &source->reader;
    if (look == LOOK_TRUNCATED) {
        log_line(source->files->host, CHANSERV_LOG_DEBUG, "%s: was truncated; starting over", source->path);
        reader->offset = reader->scanned = 0;
    } else if (look == LOOK_REPLACED && source->leaving) {
        close_file(source);
        reader_restart(reader);
        source->leaving = false;
    } else if (look == LOOK_REPLACED) {
        /*
         * Data that was written before the name changed may have arrived only now, so the file is read to its end once
         * more.
         */
        source->leaving = true;
    }
}

static chanserv_status follow(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    struct watcher *watcher = source->files->watcher;
    struct reader *reader = &source->reader;
    watcher_disarm(watcher, &source->follower);
    size_t budget = POLL_BYTES;
    while (budget > 0) {
        chanserv_status opened = reader->file < 0 ? open_followed(source, error) : CHANSERV_READY;
        if (opened < 0) {
            return opened;
        }
        if (opened == CHANSERV_READY) {
            chanserv_status failure = CHANSERV_ERROR_INTERNAL;
            switch (reader_read(reader, &source->files->cut, source->leaving, &budget, sink, &failure, error)) {
            case READ_MORE:
                return CHANSERV_READY;
            case READ_FAILED:
                return failure;
            case READ_END:
                break;
            }
        }
        enum look_result look = reader_look(reader, source->files->root);
        if (look == LOOK_SAME) {
            source->leaving = false;
            keep_or_close_file(source); /* before arming, because the armed watcher uses it too */
            if (!watcher_arm(watcher, &source->follower, sink->wake)) {
                return fail(error, CHANSERV_ERROR_BUSY, "%s: no memory to follow it", source->path);
            }
            /* Checks for changes that happened before the watcher was armed. */
            look = reader_look(reader, source->files->root);
            if (look == LOOK_SAME) {
                return CHANSERV_PENDING;
            }
            watcher_disarm(watcher, &source->follower);
        }
        handle_change(source, look);
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
    bool followed = source->files->watcher != NULL;
    chanserv_status status = followed ? follow(source, sink, error) : read_once(source, sink, error);
    if (status == CHANSERV_READY) {
        keep_or_close_file(source);
    } else if (status != CHANSERV_PENDING) {
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
    if (source->files->watcher != NULL) {
        watcher_forget(source->files->watcher, &source->follower);
    }
    close_file(source);
    free(source);
}
