/*
 * Load: generates sources and frames for measurements and tests. `chanserv bench` uses it.
 *
 * Request: SOURCES FRAMES SIZE KIND [RATE] [lend], e.g. `10 500 1048576 random`: the number of sources, the frames of
 * each source, and the bytes of each frame. KIND is zero, text (compresses well), random (does not compress) or magic
 * (as random, but begins with `lz4!` like compressed frames). RATE is the number of frames per second of each source;
 * the first frame is sent at once. Without RATE, or with 0, frames are sent as fast as they are requested. With the
 * word lend, frames of 8 KiB and more are lent to the host instead of written into its buffer.
 *
 * Answer: the header of each source is its number, from 0. content.h describes the content of a frame.
 *
 * Configuration: none; every key is an error.
 */
#include "chanserv_plugin.h"
#include "content.h"
#include "pool.h"
#include "request.h"
#include "source.h"
#include "timer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct chanserv_instance {
    struct timer *timer;
    struct pool *pool;
    struct content content;
};

/* One request, and the number of its sources that the host has taken. */
struct chanserv_call {
    chanserv_instance *instance;
    struct load_request request;
    uint64_t next;
};

static chanserv_status no_memory(chanserv_error *error, chanserv_status status) {
    snprintf(error->message, error->capacity, "out of memory");
    return status;
}

static chanserv_status load_create(const chanserv_host *host, const chanserv_config *config,
                                   chanserv_instance **instance, chanserv_error *error) {
    chanserv_status status = host->config_only(host, config, NULL, 0, error);
    if (status < 0) {
        return status;
    }
    chanserv_instance *new = malloc(sizeof *new);
    struct timer *timer = timer_new(host);
    struct pool *pool = new != NULL ? pool_new(&new->content) : NULL;
    if (timer == NULL || pool == NULL) {
        if (timer != NULL) {
            timer_free(timer);
        }
        if (pool != NULL) {
            pool_free(pool);
        }
        free(new);
        return no_memory(error, CHANSERV_ERROR_INTERNAL);
    }
    new->timer = timer;
    new->pool = pool;
    content_fill(&new->content);
    *instance = new;
    return CHANSERV_READY;
}

static void load_destroy(chanserv_instance *instance) {
    timer_free(instance->timer);
    pool_free(instance->pool);
    free(instance);
}

static chanserv_status load_open(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                 chanserv_error *error) {
    struct load_request parsed;
    chanserv_status status = request_parse(&parsed, request->body, request->body_size, error);
    if (status < 0) {
        return status;
    }
    *call = malloc(sizeof **call);
    if (*call == NULL) {
        return no_memory(error, CHANSERV_ERROR_BUSY);
    }
    **call = (chanserv_call){.instance = instance, .request = parsed, .next = 0};
    return CHANSERV_READY;
}

static chanserv_status load_poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    while (call->next < call->request.sources) {
        chanserv_source *source =
            source_new(&call->request, call->next, &call->instance->content, call->instance->pool,
                       call->instance->timer);
        if (source == NULL) {
            return no_memory(error, CHANSERV_ERROR_BUSY);
        }
        char header[24];
        int size = snprintf(header, sizeof header, "%" PRIu64, call->next);
        chanserv_status status = sink->add(sink, header, (size_t)size, source);
        if (status != CHANSERV_READY) {
            source_free(source); /* not taken, so it still belongs to this plugin */
            return status == CHANSERV_FULL ? CHANSERV_READY : status;
        }
        call->next++;
    }
    return CHANSERV_END;
}

/* No poll of a call waits. */
static void load_cancel_call(chanserv_call *call) {
    (void)call;
}

static void load_close_call(chanserv_call *call) {
    free(call);
}

static const chanserv_plugin load_plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    /* A poll makes at most one batch of frames. Locks are held only for some list or heap operations. */
    .flags = CHANSERV_PLUGIN_INLINE,
    .name = "load",
    .version = "1.0.0",
    .create = load_create,
    .destroy = load_destroy,
    .open = load_open,
    .poll_sources = load_poll_sources,
    .cancel_call = load_cancel_call,
    .close_call = load_close_call,
    .poll_frames = source_poll,
    .cancel_source = source_cancel,
    .close_source = source_free,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) {
    return &load_plugin;
}
