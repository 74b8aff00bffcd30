/*
 * Drill: a plugin that runs the commands of a test and counts the calls of the host.
 *
 * A request is a text. Each of its lines is a source, or its first word is a command:
 *
 *   repeat <n> <line>           n sources, each of which runs <line>
 *   stats                       one source with one frame: the counts now
 *   idle                        like stats, but waits until no other request is open
 *   closed <tag> <n>            like stats, but waits until n sources with the tag are closed
 *   refuse <message>            open fails
 *   broken <line>               one source that runs <line>, then poll_sources fails
 *
 * The lines:
 *
 *   make <append|reserve> <kind> <size>    one frame, see fill()
 *   count <n> <size>                       n frames "<version> <index>" and blanks up to <size> bytes
 *   forever <size> <tag>                   like count without an end, until the source is cancelled
 *   deaf <tag>                             one frame, then PENDING for ever, also after a cancel
 *   fail <message>                         an error
 *   log <n> <size>                         n lines "<version> line <index>" and stars up to <size> bytes, then a frame
 *   large <append|reserve>                 one frame, then one of 100 MiB + 1
 *   shell <command>                        one frame: the output of a shell command
 *   ruin <way>                             see ruin.h; an error if the process survives
 *
 * The configuration: `fail` is a message with which create fails. `label` has no effect, but makes the instance a
 * different one. `fifo` is a pipe that create waits for. `create` and `destroy` are the ways in which these functions
 * ruin the process. The constructor of a library that is built with RUIN_LOADING ruins the process.
 *
 * The header of a source is its number. The counts are those of one loaded copy of the library, so of one version. The
 * requests stats, idle and closed are not counted.
 */
#include "chanserv_plugin.h"
#include "ruin.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DRILL_ABI_MAJOR
#define DRILL_ABI_MAJOR CHANSERV_ABI_MAJOR
#endif

/* The test writes the digits into the built file. The array is not static, so that the compiler keeps it variable. */
#define MARK "DRILL-VERSION:"
char drill_version_mark[] = MARK "0000";
#define VERSION (&drill_version_mark[sizeof MARK - 1])

enum { TAGS = 16, WAITERS = 64, NAME = 16, TEXT = 128 };

struct chanserv_instance {
    const chanserv_host *host;
    char ruin[16]; /* the way in which destroy ruins the process */
};

struct chanserv_call {
    const chanserv_host *host;
    bool is_counted;
    bool is_broken; /* poll_sources fails when the lines are done */
    char *line;     /* the next line, in body */
    long left;      /* number of sources that still have to run that line */
    long number;    /* number of the next source */
    char body[];
};

enum verb { MAKE, COUNT, FOREVER, DEAF, FAIL, LARGE, LOG, SHELL, RUIN, STATS, IDLE, CLOSED };

struct chanserv_source {
    const chanserv_host *host;
    enum verb verb;
    bool is_counted;
    bool reserves;
    bool is_done; /* the first frame is sent; for verbs with two steps */
    char tag[NAME], kind[NAME], message[TEXT];
    long count, index;
    size_t size;
    char *frame;
    atomic_bool is_cancelled;
};

/* ---------------------------------------------------------------------------------------------------------------
 * Counts
 * ------------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* The mutex protects all of these. */
static long created, destroyed, open_calls, open_sources, all_calls, all_sources;
static struct tag {
    char name[NAME];
    long polls, closed;
} tags[TAGS];
static struct {
    const chanserv_host *host;
    uint64_t wake;
} waiters[WAITERS];
static int waiter_count;

/* Returns the entry of a tag, and adds it if there is none. The caller holds the mutex. */
static struct tag *find_tag(const char *name) {
    int i = 0;
    while (i < TAGS - 1 && tags[i].name[0] != 0 && strcmp(tags[i].name, name) != 0) i++;
    if (tags[i].name[0] == 0) memcpy(tags[i].name, name, NAME);
    return &tags[i];
}

/* Wakes all waiting reports, because something has ended. The caller holds the mutex. */
static void wake_waiters(void) {
    for (int i = 0; i < waiter_count; i++) waiters[i].host->wake(waiters[i].host, waiters[i].wake);
    waiter_count = 0;
}

static void count(long *counter, long change) {
    pthread_mutex_lock(&mutex);
    *counter += change;
    if (change < 0) wake_waiters();
    pthread_mutex_unlock(&mutex);
}

/* Whether the condition of a report is fulfilled. The caller holds the mutex. */
static bool may_report(const chanserv_source *source) {
    switch (source->verb) {
    case IDLE: return open_calls == 0;
    case CLOSED: return find_tag(source->tag)->closed >= source->count;
    default: return true;
    }
}

static chanserv_status report(chanserv_source *source, chanserv_frame_sink *sink) {
    char text[512];
    pthread_mutex_lock(&mutex);
    if (!may_report(source)) {
        chanserv_status status = CHANSERV_ERROR_BUSY;
        if (waiter_count < WAITERS) {
            waiters[waiter_count].host = source->host;
            waiters[waiter_count++].wake = sink->wake;
            status = CHANSERV_PENDING;
        }
        pthread_mutex_unlock(&mutex);
        return status;
    }
    int size = snprintf(
        text, sizeof text,
        "version=%s created=%ld destroyed=%ld open_calls=%ld open_sources=%ld calls=%ld sources=%ld polls=%ld "
        "process=%ld",
        VERSION, created, destroyed, open_calls, open_sources, all_calls, all_sources,
        source->tag[0] == 0 ? 0 : find_tag(source->tag)->polls, (long)getpid());
    pthread_mutex_unlock(&mutex);
    chanserv_status status = sink->append(sink, text, (size_t)size);
    return status == CHANSERV_READY ? CHANSERV_END : status;
}

/* ---------------------------------------------------------------------------------------------------------------
 * Frames
 * ------------------------------------------------------------------------------------------------------------- */

enum { NOISE = 262147, LETTERS = 4093 };
static unsigned char noise[NOISE], letters[LETTERS];

static void make_blocks(void) {
    uint32_t state = 1;
    for (int i = 0; i < NOISE; i++) {
        state = state * 1664525u + 1013904223u;
        noise[i] = (unsigned char)(state >> 24);
    }
    for (int i = 0; i < LETTERS; i++) letters[i] = (unsigned char)('a' + i * i % 26);
}

/*
 * Kinds: `random` repeats a block of noise that is too long for LZ4 to find the repetition. `text` repeats a block of
 * letters. `marked` and `marked-text` are the same with `lz4!` at the beginning. Payload.swift makes the same bytes.
 */
static void fill(unsigned char *out, size_t size, const char *kind) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_blocks);
    bool is_text = strstr(kind, "text") != NULL;
    const unsigned char *block = is_text ? letters : noise;
    size_t length = is_text ? LETTERS : NOISE;
    for (size_t at = 0; at < size; at += length) memcpy(out + at, block, size - at < length ? size - at : length);
    if (strncmp(kind, "marked", 6) == 0) memcpy(out, "lz4!", size < 4 ? size : 4);
}

static chanserv_status make(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    chanserv_status status;
    if (source->reserves) {
        size_t capacity = 0;
        void *room = sink->reserve(sink, source->size, &capacity);
        if (room == NULL || capacity < source->size) {
            snprintf(error->message, error->capacity, "no room for %zu bytes in an empty sink", source->size);
            return CHANSERV_ERROR_INTERNAL;
        }
        fill(room, source->size, source->kind);
        status = sink->commit(sink, source->size);
    } else {
        unsigned char *bytes = malloc(source->size + 1);
        fill(bytes, source->size, source->kind);
        status = sink->append(sink, bytes, source->size);
        free(bytes);
    }
    if (status < 0) snprintf(error->message, error->capacity, "the sink answered %d", status);
    return status == CHANSERV_READY ? CHANSERV_END : status;
}

static chanserv_status number(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    if (source->frame == NULL) source->frame = malloc(source->size + 64);
    while (source->verb == FOREVER || source->index < source->count) {
        if (atomic_load(&source->is_cancelled)) {
            snprintf(error->message, error->capacity, "cancelled");
            return CHANSERV_ERROR_INTERNAL;
        }
        size_t size = (size_t)snprintf(source->frame, 64, "%s %ld", VERSION, source->index);
        if (size < source->size) {
            memset(source->frame + size, ' ', source->size - size);
            size = source->size;
        }
        chanserv_status status = sink->append(sink, source->frame, size);
        if (status != CHANSERV_READY) return status == CHANSERV_FULL ? CHANSERV_READY : status;
        source->index++;
    }
    return CHANSERV_END;
}

static chanserv_status write_log(chanserv_source *source, chanserv_frame_sink *sink) {
    if (source->frame == NULL) source->frame = malloc(source->size + 64);
    for (; source->index < source->count; source->index++) {
        size_t size = (size_t)snprintf(source->frame, 64, "%s line %ld ", VERSION, source->index);
        if (size < source->size) {
            memset(source->frame + size, '*', source->size - size);
            size = source->size;
        }
        source->host->log(source->host, CHANSERV_LOG_INFO, source->frame, size);
    }
    chanserv_status status = sink->append(sink, "logged", 6);
    return status == CHANSERV_READY ? CHANSERV_END : status;
}

/* popen(3) starts the command as most plugins do: without closing descriptors. */
static chanserv_status run_shell(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    char output[4096];
    FILE *pipe = popen(source->message, "r");
    if (pipe == NULL) {
        snprintf(error->message, error->capacity, "cannot start a shell");
        return CHANSERV_ERROR_INTERNAL;
    }
    size_t size = fread(output, 1, sizeof output, pipe);
    pclose(pipe);
    chanserv_status status = sink->append(sink, output, size);
    return status == CHANSERV_READY ? CHANSERV_END : status;
}

/* Adds a frame of 100 MiB + 1. The error message is the answer of the sink. */
static chanserv_status too_large(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    size_t size = CHANSERV_FRAME_SIZE_MAX + 1;
    if (source->reserves) {
        size_t capacity;
        bool refused = sink->reserve(sink, size, &capacity) == NULL;
        snprintf(error->message, error->capacity, "reserve %s", refused ? "gave no room" : "gave room");
        return CHANSERV_ERROR_TOO_LARGE;
    }
    /* The array is smaller: the sink must refuse the frame before it reads it. */
    chanserv_status status = sink->append(sink, noise, size);
    snprintf(error->message, error->capacity, "append said %d", status);
    return CHANSERV_ERROR_TOO_LARGE;
}

static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    if (source->tag[0] != 0 && source->is_counted) {
        pthread_mutex_lock(&mutex);
        find_tag(source->tag)->polls++;
        pthread_mutex_unlock(&mutex);
    }
    switch (source->verb) {
    case MAKE: return make(source, sink, error);
    case COUNT:
    case FOREVER: return number(source, sink, error);
    case LOG: return write_log(source, sink);
    case SHELL: return run_shell(source, sink, error);
    case STATS:
    case IDLE:
    case CLOSED: return report(source, sink);
    case FAIL:
        snprintf(error->message, error->capacity, "%s", source->message);
        return CHANSERV_ERROR_INTERNAL;
    case RUIN:
        ruin(source->kind);
        snprintf(error->message, error->capacity, "ruin '%s' did not end the process", source->kind);
        return CHANSERV_ERROR_INTERNAL;
    case DEAF:
    case LARGE: break;
    }
    if (!source->is_done) {
        chanserv_status status = sink->append(sink, "first", 5);
        source->is_done = status == CHANSERV_READY;
        return status == CHANSERV_FULL ? CHANSERV_READY : status;
    }
    return source->verb == DEAF ? CHANSERV_PENDING : too_large(source, sink, error);
}

/* ---------------------------------------------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------------------------------------------- */

static bool parse(const char *line, chanserv_source *source) {
    char way[NAME] = "";
    if (sscanf(line, "make %15s %15s %zu", way, source->kind, &source->size) == 3) {
        source->verb = MAKE;
    } else if (sscanf(line, "count %ld %zu", &source->count, &source->size) == 2) {
        source->verb = COUNT;
    } else if (sscanf(line, "forever %zu %15s", &source->size, source->tag) == 2) {
        source->verb = FOREVER;
    } else if (sscanf(line, "deaf %15s", source->tag) == 1) {
        source->verb = DEAF;
    } else if (sscanf(line, "fail %127[^\n]", source->message) == 1) {
        source->verb = FAIL;
    } else if (sscanf(line, "shell %127[^\n]", source->message) == 1) {
        source->verb = SHELL;
    } else if (sscanf(line, "log %ld %zu", &source->count, &source->size) == 2) {
        source->verb = LOG;
    } else if (sscanf(line, "large %15s", way) == 1) {
        source->verb = LARGE;
    } else if (sscanf(line, "ruin %15s", source->kind) == 1) {
        source->verb = RUIN;
    } else if (sscanf(line, "closed %15s %ld", source->tag, &source->count) == 2) {
        source->verb = CLOSED;
    } else if (strncmp(line, "stats", 5) == 0 || strncmp(line, "idle", 4) == 0) {
        source->verb = line[0] == 's' ? STATS : IDLE;
    } else {
        return false;
    }
    source->reserves = strcmp(way, "reserve") == 0;
    source->is_counted = source->verb < STATS;
    return true;
}

static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request, chanserv_call **out,
                                 chanserv_error *error) {
    chanserv_call *call = calloc(1, sizeof *call + request->body_size + 1);
    memcpy(call->body, request->body, request->body_size);
    if (strncmp(call->body, "refuse ", 7) == 0) {
        snprintf(error->message, error->capacity, "%s", call->body + 7);
        free(call);
        return CHANSERV_ERROR_INTERNAL;
    }
    call->host = instance->host;
    call->line = call->body;
    call->left = 1;
    int skipped = 0;
    if (sscanf(call->body, "repeat %ld %n", &call->left, &skipped) == 1) {
        call->line += skipped;
    } else if (strncmp(call->body, "broken ", 7) == 0) {
        call->is_broken = true;
        call->line += 7;
    }
    chanserv_source probe = {0};
    if (!parse(call->line, &probe)) {
        snprintf(error->message, error->capacity, "unknown command '%.64s'", call->line);
        free(call);
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    call->is_counted = probe.is_counted;
    if (call->is_counted) {
        count(&all_calls, 1);
        count(&open_calls, 1);
    }
    *out = call;
    return CHANSERV_READY;
}

static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    while (*call->line != 0) {
        chanserv_source *source = calloc(1, sizeof *source);
        source->host = call->host;
        if (!parse(call->line, source)) {
            free(source);
            snprintf(error->message, error->capacity, "unknown command '%.64s'", call->line);
            return CHANSERV_ERROR_BAD_REQUEST;
        }
        /* Counted before it is added: after that the host may close it at any time. */
        if (source->is_counted) count(&open_sources, 1);
        char header[32];
        int size = snprintf(header, sizeof header, "%ld", call->number);
        bool is_counted = source->is_counted;
        chanserv_status status = sink->add(sink, header, (size_t)size, source);
        if (status != CHANSERV_READY) {
            if (is_counted) count(&open_sources, -1);
            free(source);
            return status == CHANSERV_FULL ? CHANSERV_READY : status;
        }
        if (is_counted) count(&all_sources, 1);
        call->number++;
        if (--call->left > 0) continue;
        call->left = 1;
        char *end = strchr(call->line, '\n');
        call->line = end == NULL ? call->line + strlen(call->line) : end + 1;
    }
    if (!call->is_broken) return CHANSERV_END;
    snprintf(error->message, error->capacity, "no more sources");
    return CHANSERV_ERROR_INTERNAL;
}

static void cancel_call(chanserv_call *call) {
    (void)call;
}

static void close_call(chanserv_call *call) {
    if (call->is_counted) count(&open_calls, -1);
    free(call);
}

static void cancel_source(chanserv_source *source) {
    atomic_store(&source->is_cancelled, true);
}

static void close_source(chanserv_source *source) {
    if (source->is_counted) {
        pthread_mutex_lock(&mutex);
        if (source->tag[0] != 0) find_tag(source->tag)->closed++;
        pthread_mutex_unlock(&mutex);
        count(&open_sources, -1);
    }
    free(source->frame);
    free(source);
}

/* ---------------------------------------------------------------------------------------------------------------
 * The instance
 * ------------------------------------------------------------------------------------------------------------- */

static chanserv_status create(const chanserv_host *host, const chanserv_config *config, chanserv_instance **instance,
                              chanserv_error *error) {
    const char *const known[] = {"fail", "label", "fifo", "create", "destroy"};
    const char *message = NULL;
    size_t size;
    chanserv_status status = host->config_only(host, config, known, 5, error);
    if (status < 0) return status;
    status = host->config_string(host, config, "fail", &message, &size, error);
    if (status == CHANSERV_READY) {
        snprintf(error->message, error->capacity, "%s", message);
        return CHANSERV_ERROR_INTERNAL;
    }
    if (status != CHANSERV_ERROR_NOT_FOUND) return status;
    if (host->config_path(host, config, "fifo", &message, &size, error) == CHANSERV_READY) {
        host->log(host, CHANSERV_LOG_INFO, "create waits", 12);
        close(open(message, O_RDONLY | O_CLOEXEC)); /* returns when the pipe is opened for writing */
    }
    if (host->config_string(host, config, "create", &message, &size, error) == CHANSERV_READY) ruin(message);
    *instance = calloc(1, sizeof **instance);
    (*instance)->host = host;
    if (host->config_string(host, config, "destroy", &message, &size, error) == CHANSERV_READY) {
        snprintf((*instance)->ruin, sizeof(*instance)->ruin, "%s", message);
    }
    count(&created, 1);
    return CHANSERV_READY;
}

static void destroy(chanserv_instance *instance) {
    char text[64];
    int size = snprintf(text, sizeof text, "destroyed version %s", VERSION);
    instance->host->log(instance->host, CHANSERV_LOG_INFO, text, (size_t)size);
    count(&destroyed, 1);
    ruin(instance->ruin);
    free(instance);
}

#ifdef RUIN_LOADING
__attribute__((constructor)) static void ruin_loading(void) {
    ruin(RUIN_LOADING);
}
#endif

static const chanserv_plugin drill = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = DRILL_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    .flags = 0,
    .name = "drill",
    .version = VERSION,
    .create = create,
    .destroy = destroy,
    .open = open_call,
    .poll_sources = poll_sources,
    .cancel_call = cancel_call,
    .close_call = close_call,
    .poll_frames = poll_frames,
    .cancel_source = cancel_source,
    .close_source = close_source,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) {
    return &drill;
}
