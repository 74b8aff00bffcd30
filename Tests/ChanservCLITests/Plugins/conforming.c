/*
 * A plugin that follows every rule. The plugins that break a rule define a hook and include this file.
 *
 * Request: SOURCES FRAMES, such as `2 3`. The answer has that many sources with that many frames. The header of a
 * source is its number. A source waits once before its first frame, writes every other frame in the host's buffer, and
 * lends every fourth frame.
 * Configuration: `prefix`, a string before each frame, and `limit`, the maximum number of frames.
 */
#define _GNU_SOURCE
#include "chanserv_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hooks.h"

/* A thread that wakes handles after a delay. */
struct waker {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool ending;
    uint64_t handles[4096];
    size_t count;
};

struct chanserv_instance {
    const chanserv_host *host;
    struct waker waker;
    char prefix[32];
    int64_t limit;
    INSTANCE_FIELDS
};

struct chanserv_call {
    chanserv_instance *instance;
    int sources, frames, next;
    atomic_int cancels;
    bool polled;
    CALL_FIELDS
};

struct chanserv_source {
    chanserv_call *call;
    int number, sent;
    atomic_int cancels;
    _Atomic uint64_t waits; /* the handle to wake on cancel; 0 before the source has waited */
    bool polled, waited, ended;
    SOURCE_FIELDS
};

static void *run_waker(void *argument) {
    chanserv_instance *instance = argument;
    struct waker *waker = &instance->waker;
    pthread_mutex_lock(&waker->lock);
    while (!waker->ending) {
        if (waker->count == 0) {
            pthread_cond_wait(&waker->changed, &waker->lock);
            continue;
        }
        uint64_t handle = waker->handles[--waker->count];
        pthread_mutex_unlock(&waker->lock);
        usleep(WAKE_DELAY);
        WAKE(instance->host, handle);
        pthread_mutex_lock(&waker->lock);
    }
    pthread_mutex_unlock(&waker->lock);
    return NULL;
}

static chanserv_status fail(chanserv_error *error, chanserv_status status, const char *message) {
    ERROR_MESSAGE(error, message);
    return status;
}

static chanserv_status create(const chanserv_host *host, const chanserv_config *config, chanserv_instance **result,
                              chanserv_error *error) {
    const char *const known[] = {"prefix", "limit"};
    chanserv_status status = ONLY(host, config, known, error);
    if (status < 0) return status;
    const char *prefix = "frame";
    size_t size = strlen(prefix);
    status = host->config_string(host, config, "prefix", &prefix, &size, error);
    if (status < 0 && status != CHANSERV_ERROR_NOT_FOUND) return status;
    if (size >= 32) return fail(error, CHANSERV_ERROR_BAD_REQUEST, "prefix: it is too long");
    int64_t limit = 1000;
    status = host->config_integer(host, config, "limit", &limit, error);
    ON_LIMIT(status)
    if (status < 0 && status != CHANSERV_ERROR_NOT_FOUND) return status;

    chanserv_instance *instance = calloc(1, sizeof *instance);
    if (instance == NULL) return fail(error, CHANSERV_ERROR_INTERNAL, "out of memory");
    instance->host = host;
    memcpy(instance->prefix, prefix, size);
    instance->limit = limit;
    pthread_mutex_init(&instance->waker.lock, NULL);
    pthread_cond_init(&instance->waker.changed, NULL);
    if (pthread_create(&instance->waker.thread, NULL, run_waker, instance) != 0) {
        free(instance);
        return fail(error, CHANSERV_ERROR_INTERNAL, "no thread");
    }
    *result = instance;
    ON_CREATE(instance)
    return CHANSERV_READY;
}

static void destroy(chanserv_instance *instance) {
    ON_DESTROY(instance)
    pthread_mutex_lock(&instance->waker.lock);
    instance->waker.ending = true;
    pthread_cond_signal(&instance->waker.changed);
    pthread_mutex_unlock(&instance->waker.lock);
    pthread_join(instance->waker.thread, NULL);
    free(instance);
}

static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request, chanserv_call **result,
                                 chanserv_error *error) {
    ON_OPEN(instance, request)
    char text[32] = "";
    int sources, frames;
    char rest;
    if (request->body_size >= sizeof text) return fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request is too long");
    memcpy(text, request->body, request->body_size);
    if (sscanf(text, "%d %d%c", &sources, &frames, &rest) != 2 || sources < 0 || frames < 0 || sources > 100 ||
        frames > instance->limit) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "the request is not SOURCES FRAMES, within their limits");
    }
    chanserv_call *call = calloc(1, sizeof *call);
    if (call == NULL) return fail(error, CHANSERV_ERROR_BUSY, "out of memory");
    call->instance = instance;
    call->sources = sources;
    call->frames = frames;
    ON_OPENED(call, request)
    *result = call;
    return CHANSERV_READY;
}

static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    call->polled = true;
    int taken = 0;
    for (; call->next < call->sources; call->next++, taken++) {
        chanserv_source *source = calloc(1, sizeof *source);
        if (source == NULL) return fail(error, CHANSERV_ERROR_BUSY, "out of memory");
        source->call = call;
        source->number = call->next;
        char header[16];
        int size = snprintf(header, sizeof header, "%d", call->next);
        chanserv_status status = sink->add(sink, header, (size_t)size, source);
        if (status == CHANSERV_READY) continue;
        free(source);
        ON_SOURCE_FULL(taken)
        if (status == CHANSERV_FULL) return CHANSERV_READY;
        return fail(error, CHANSERV_ERROR_INTERNAL, "a source was refused");
    }
    return CHANSERV_END;
}

/* A lent frame. */
struct lent {
    char text[64];
};

static void release_lent(void *context) {
    struct lent *lent = context;
    ON_RELEASE(lent)
    free(lent);
}

static chanserv_status lend_frame(chanserv_frame_sink *sink, const char *text, int size) {
    if (!(HAS_LEND(sink))) return sink->append(sink, text, (size_t)size);
    struct lent *lent = malloc(sizeof *lent);
    if (lent == NULL) return CHANSERV_ERROR_INTERNAL;
    memcpy(lent->text, text, sizeof lent->text);
    ON_LEND(lent)
    chanserv_status status = sink->lend(sink, lent->text, (size_t)size, release_lent, lent);
    ON_LENT(lent, status)
    if (status != CHANSERV_READY) free(lent);
    return status;
}

/* Sends one frame: by append, in place, or lent. */
static chanserv_status send_frame(chanserv_source *source, chanserv_frame_sink *sink) {
    char text[64] = "";
    int size = snprintf(text, sizeof text, "%s %d", source->call->instance->prefix, source->sent);
    if (source->sent % 4 == 2) return lend_frame(sink, text, size);
    if (source->sent % 2 == 0) return sink->append(sink, text, (size_t)size);
    size_t capacity;
    char *place = sink->reserve(sink, 2, &capacity);
    if (place == NULL) return CHANSERV_FULL;
    place[0] = text[0];
    place[1] = text[1];
    place = sink->reserve(sink, (size_t)size, &capacity); /* enlarging keeps the first two bytes */
    if (place == NULL) return CHANSERV_FULL;
    memcpy(place + 2, text + 2, (size_t)size - 2);
    ON_FILLED(place, capacity)
    return sink->commit(sink, (size_t)size);
}

static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    ON_POLL_FRAMES(source)
    source->polled = true;
    if (atomic_load(&source->cancels) > 0) return fail(error, CHANSERV_ERROR_INTERNAL, "cancelled");
    if (!source->waited) {
        source->waited = true;
        struct waker *waker = &source->call->instance->waker;
        atomic_store(&source->waits, sink->wake);
        pthread_mutex_lock(&waker->lock);
        if (waker->count < 4096) waker->handles[waker->count++] = sink->wake;
        pthread_cond_signal(&waker->changed);
        pthread_mutex_unlock(&waker->lock);
        return CHANSERV_PENDING;
    }
    int taken = 0;
    for (; source->sent < source->call->frames; source->sent++, taken++) {
        chanserv_status status = send_frame(source, sink);
        if (status == CHANSERV_READY) continue;
        ON_FRAME_FULL(status, taken)
        if (status == CHANSERV_FULL) return CHANSERV_READY;
        return fail(error, CHANSERV_ERROR_INTERNAL, "a frame was refused");
    }
    source->ended = true;
    return LAST_STATUS;
}

static void cancel_source(chanserv_source *source) {
    ON_CANCEL_SOURCE(source)
    atomic_fetch_add(&source->cancels, 1);
    uint64_t handle = atomic_load(&source->waits);
    if (handle != 0) CANCEL_WAKE(source->call->instance->host, handle);
}

static void close_source(chanserv_source *source) {
    ON_CLOSE_SOURCE(source)
    free(source);
}

static void cancel_call(chanserv_call *call) {
    ON_CANCEL_CALL(call)
    atomic_fetch_add(&call->cancels, 1);
}

static void close_call(chanserv_call *call) {
    ON_CLOSE_CALL(call)
    free(call);
}

static DESCRIPTOR_STORAGE chanserv_plugin descriptor = {
    .magic = DESCRIPTOR_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    .flags = DESCRIPTOR_FLAGS,
    .name = "conforming",
    .version = "1",
    .create = create,
    .destroy = destroy,
    .open = open_call,
    .poll_sources = poll_sources,
    .cancel_call = cancel_call,
    .close_call = close_call,
    .poll_frames = poll_frames,
    .cancel_source = cancel_source,
    .close_source = DESCRIPTOR_CLOSE_SOURCE,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { ON_ENTRY return &descriptor; }
