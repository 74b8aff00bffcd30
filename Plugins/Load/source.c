#include "source.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Minimum size of frames that are lent on request. The host would copy smaller ones. */
#define LENT_MIN 8192
/*
 * Maximum size of frames that are made on the stack and appended with one call. Larger ones are made in the host's
 * buffer.
 */
#define APPENDED_MAX 512

struct chanserv_source {
    const struct content *content;
    struct pool *pool;
    struct timer *timer;
    const struct load_request *request; /* belongs to the call, which is closed after its sources */
    uint64_t number;
    uint64_t sent;      /* number of sent frames */
    uint64_t began;     /* due time of the first frame in monotonic nanoseconds; only with a rate */
    struct alarm alarm; /* for the next frame; only with a rate */
    atomic_bool cancelled; /* may be set by any thread while the source is polled */
};

chanserv_source *source_new(const struct load_request *request, uint64_t number, const struct content *content,
                            struct pool *pool, struct timer *timer) {
    chanserv_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        return NULL;
    }
    source->content = content;
    source->pool = pool;
    source->timer = timer;
    source->request = request;
    source->number = number;
    if (request->rate > 0) {
        source->began = timer_now();
    }
    atomic_init(&source->cancelled, false);
    return source;
}

/* Sends the next frame from memory of the plugin. */
static chanserv_status lend_frame(chanserv_source *source, chanserv_frame_sink *sink) {
    size_t size = source->request->size;
    struct block *block = pool_take(source->pool, source->request->kind, size);
    if (block == NULL) {
        return CHANSERV_ERROR_BUSY;
    }
    content_change_head(source->request->kind, source->number, source->sent, block->bytes, size);
    if (CHANSERV_HAS(sink, chanserv_frame_sink, lend)) {
        chanserv_status status = sink->lend(sink, block->bytes, size, pool_give_back, block);
        if (status != CHANSERV_READY) {
            pool_give_back(block); /* not lent */
        }
        return status;
    }
    chanserv_status status = sink->append(sink, block->bytes, size); /* a host of version 1.0 */
    pool_give_back(block);
    return status;
}

static void write_frame(const chanserv_source *source, unsigned char *frame, size_t size) {
    (source->request->lends ? content_write_lent : content_write)(source->content, source->request->kind,
                                                                  source->number, source->sent, frame, size);
}

/* Sends the next frame. CHANSERV_READY: the frame was taken. */
static chanserv_status send_frame(chanserv_source *source, chanserv_frame_sink *sink) {
    size_t size = source->request->size;
    if (source->request->lends && size >= LENT_MIN) {
        return lend_frame(source, sink);
    }
    if (size <= APPENDED_MAX) {
        unsigned char frame[APPENDED_MAX];
        write_frame(source, frame, size);
        return sink->append(sink, frame, size);
    }
    size_t capacity;
    void *frame = sink->reserve(sink, size, &capacity);
    if (frame == NULL) {
        return CHANSERV_FULL;
    }
    write_frame(source, frame, size);
    return sink->commit(sink, size);
}

/* Returns the due time of a frame. At very small rates the time exceeds the clock and is limited. */
static uint64_t due(const chanserv_source *source, uint64_t frame) {
    double wait = (double)frame * 1e9 / source->request->rate;
    return wait < 4e18 ? source->began + (uint64_t)wait : UINT64_C(1) << 62;
}

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    uint64_t now = source->request->rate > 0 ? timer_now() : 0;
    while (source->sent < source->request->frames) {
        if (atomic_load_explicit(&source->cancelled, memory_order_relaxed)) {
            snprintf(error->message, error->capacity, "cancelled");
            return CHANSERV_ERROR_INTERNAL;
        }
        uint64_t next = source->request->rate > 0 ? due(source, source->sent) : 0;
        if (next > now) {
            if (timer_set(source->timer, &source->alarm, next, sink->wake)) {
                /* A cancellation before the alarm was set could not trigger it. */
                if (atomic_load(&source->cancelled)) {
                    continue;
                }
                return CHANSERV_PENDING;
            }
            snprintf(error->message, error->capacity, "no memory or no thread for the timer");
            return CHANSERV_ERROR_BUSY;
        }
        chanserv_status status = send_frame(source, sink);
        if (status == CHANSERV_ERROR_BUSY) {
            snprintf(error->message, error->capacity, "out of memory");
        }
        if (status != CHANSERV_READY) {
            return status == CHANSERV_FULL ? CHANSERV_READY : status;
        }
        source->sent++;
    }
    return CHANSERV_END;
}

/* Cancels the source and wakes it if it waits. */
void source_cancel(chanserv_source *source) {
    atomic_store(&source->cancelled, true);
    timer_hurry(source->timer, &source->alarm);
}

void source_free(chanserv_source *source) {
    timer_unset(source->timer, &source->alarm);
    free(source);
}
