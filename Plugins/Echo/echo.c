/*
 * Echo: returns the request as one source with one frame. The smallest example of the plugin ABI.
 *
 * Request: any bytes, at most 100 MiB. Answer: one source with an empty header and the request as its only frame.
 * Configuration: none; every key is an error.
 *
 * Read the file from the bottom: the exported function, the table that it returns, then the functions in the order in
 * which the host calls them. It is built with -fvisibility=hidden, so that only the exported function is visible.
 */
#include "chanserv_plugin.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An instance has no state, but it needs its own address. */
struct chanserv_instance {
    const chanserv_host *host;
};

/* One request. It owns its source until a sink takes it. */
struct chanserv_call {
    chanserv_source *source;
};

/* The source: a copy of the request, because the host's memory is valid only during open. */
struct chanserv_source {
    /* May be set by any thread while the source is polled, so it is atomic. No other field needs to be. */
    atomic_bool cancelled;
    size_t size;
    unsigned char bytes[];
};

static chanserv_status echo_create(const chanserv_host *host, const chanserv_config *config,
                                   chanserv_instance **instance, chanserv_error *error) {
    /* No key is known, so every key is an error. The host writes the message, with the place in the file. */
    chanserv_status status = host->config_only(host, config, NULL, 0, error);
    if (status < 0) {
        return status;
    }
    *instance = malloc(sizeof **instance);
    if (*instance == NULL) {
        snprintf(error->message, error->capacity, "out of memory");
        return CHANSERV_ERROR_INTERNAL;
    }
    (*instance)->host = host;
    return CHANSERV_READY;
}

static chanserv_status echo_open(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                 chanserv_error *error) {
    (void)instance;
    chanserv_source *source = malloc(sizeof *source + request->body_size);
    *call = malloc(sizeof **call);
    if (source == NULL || *call == NULL) {
        free(source);
        free(*call);
        snprintf(error->message, error->capacity, "no memory for a request of %zu bytes", request->body_size);
        return CHANSERV_ERROR_BUSY;
    }
    atomic_init(&source->cancelled, false);
    source->size = request->body_size;
    memcpy(source->bytes, request->body, request->body_size);
    (*call)->source = source;
    return CHANSERV_READY;
}

static chanserv_status echo_poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    (void)error;
    chanserv_status status = sink->add(sink, "", 0, call->source);
    if (status == CHANSERV_READY) {
        call->source = NULL; /* belongs to the host now, which closes it */
        return CHANSERV_END;
    }
    /* Not taken. If the sink was full, offer the source again in the next poll. */
    return status == CHANSERV_FULL ? CHANSERV_READY : status;
}

static chanserv_status echo_poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    if (atomic_load(&source->cancelled)) {
        snprintf(error->message, error->capacity, "cancelled");
        return CHANSERV_ERROR_INTERNAL;
    }
    chanserv_status status = sink->append(sink, source->bytes, source->size);
    if (status == CHANSERV_READY) {
        return CHANSERV_END;
    }
    return status == CHANSERV_FULL ? CHANSERV_READY : status;
}

static void echo_cancel_source(chanserv_source *source) {
    atomic_store(&source->cancelled, true);
}

static void echo_close_source(chanserv_source *source) {
    free(source);
}

/* No poll of a call waits or takes long, so there is nothing to interrupt. */
static void echo_cancel_call(chanserv_call *call) {
    (void)call;
}

static void echo_close_call(chanserv_call *call) {
    free(call->source); /* NULL unless the host closed the call before its sink took the source */
    free(call);
}

static void echo_destroy(chanserv_instance *instance) {
    free(instance);
}

static const chanserv_plugin echo_plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    /* Every function only allocates, copies the request or frees memory, so it may run on an event loop. */
    .flags = CHANSERV_PLUGIN_INLINE,
    .name = "echo",
    .version = "1.0.0",
    .create = echo_create,
    .destroy = echo_destroy,
    .open = echo_open,
    .poll_sources = echo_poll_sources,
    .cancel_call = echo_cancel_call,
    .close_call = echo_close_call,
    .poll_frames = echo_poll_frames,
    .cancel_source = echo_cancel_source,
    .close_source = echo_close_source,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) {
    return &echo_plugin;
}
