/*
 * Whoami: returns what the host knows about the caller of a request. It shows the fields of ABI version 1.1.
 *
 * Request: any bytes; only their number matters. Answer: one source with an empty header and one frame, a JSON object:
 *
 *     {"identity":"spiffe://mesh/client/shop","peer_address":"192.0.2.7:40112","remote_address":"5d0c…:3",
 *      "deadline_ms":29998,"meta":null,"bucket":null,"traceparent":null,"vaddr":"whoami","body_bytes":0}
 *
 * identity and peer_address are "" if the host knows none. deadline_ms, meta, bucket and traceparent are null if the
 * client did not set them. Bytes that are not UTF-8 are replaced by U+FFFD. Configuration: none; every key is an error.
 */
#include "chanserv_plugin.h"
#include "utf8.h"

#include <inttypes.h>
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

/* The source: the answer, because the request is valid only during open. */
struct chanserv_source {
    /* May be set by any thread while the source is polled, so it is atomic. No other field needs to be. */
    atomic_bool cancelled;
    size_t size;
    char json[];
};

/* ---- JSON ---- */

/*
 * Text that is written twice, as with snprintf: without a buffer to learn its size, then into a buffer of that size.
 * Bytes beyond the capacity are counted and not written.
 */
struct text {
    char *bytes;
    size_t capacity;
    size_t size;
};

static void put(struct text *text, const char *bytes, size_t size) {
    if (text->size <= text->capacity && size <= text->capacity - text->size) {
        memcpy(text->bytes + text->size, bytes, size);
    }
    text->size += size;
}

static void put_raw(struct text *text, const char *string) {
    put(text, string, strlen(string));
}

/* Writes a string of RFC 8259 §7, or null for NULL. */
static void put_string(struct text *text, const char *string) {
    if (string == NULL) {
        put_raw(text, "null");
        return;
    }
    put_raw(text, "\"");
    for (size_t left = strlen(string); left > 0;) {
        unsigned char byte = (unsigned char)*string;
        size_t length = utf8_length(string, left);
        char escaped[8];
        if (length == 0) {
            put_raw(text, "\xEF\xBF\xBD"); /* U+FFFD for each byte that is not part of a character */
            length = 1;
        } else if (byte == '"' || byte == '\\') {
            put(text, (const char[]){'\\', (char)byte}, 2);
        } else if (byte < 0x20) {
            put(text, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", byte));
        } else {
            put(text, string, length);
        }
        string += length;
        left -= length;
    }
    put_raw(text, "\"");
}

static void put_integer(struct text *text, int64_t number) {
    char digits[24];
    put(text, digits, (size_t)snprintf(digits, sizeof digits, "%" PRId64, number));
}

/* Writes the fields of version 1.1 that this host's request has; in a host of version 1.0 it has none of them. */
static void put_context(struct text *text, const chanserv_request *request) {
    put_raw(text, "{\"identity\":");
    put_string(text, CHANSERV_HAS(request, chanserv_request, identity) ? request->identity : "");
    put_raw(text, ",\"peer_address\":");
    put_string(text, CHANSERV_HAS(request, chanserv_request, peer_address) ? request->peer_address : "");
    put_raw(text, ",\"remote_address\":");
    put_string(text, request->remote_address);
    put_raw(text, ",\"deadline_ms\":");
    if (CHANSERV_HAS(request, chanserv_request, deadline) && request->deadline >= 0) {
        put_integer(text, request->deadline / 1000000);
    } else {
        put_raw(text, "null");
    }
    put_raw(text, ",\"meta\":");
    put_string(text, CHANSERV_HAS(request, chanserv_request, meta) ? request->meta : NULL);
    put_raw(text, ",\"bucket\":");
    put_string(text, CHANSERV_HAS(request, chanserv_request, bucket) ? request->bucket : NULL);
    put_raw(text, ",\"traceparent\":");
    put_string(text, CHANSERV_HAS(request, chanserv_request, traceparent) ? request->traceparent : NULL);
}

static void put_request(struct text *text, const chanserv_request *request) {
    put_context(text, request);
    put_raw(text, ",\"vaddr\":");
    put_string(text, request->vaddr);
    put_raw(text, ",\"body_bytes\":");
    put_integer(text, (int64_t)request->body_size); /* at most 100 MiB */
    put_raw(text, "}");
}

/* ---- The functions of the descriptor ---- */

static chanserv_status whoami_create(const chanserv_host *host, const chanserv_config *config,
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

static chanserv_status whoami_open(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                   chanserv_error *error) {
    (void)instance;
    struct text measured = {NULL, 0, 0};
    put_request(&measured, request);
    chanserv_source *source = malloc(sizeof *source + measured.size);
    *call = malloc(sizeof **call);
    if (source == NULL || *call == NULL) {
        free(source);
        free(*call);
        snprintf(error->message, error->capacity, "out of memory");
        return CHANSERV_ERROR_BUSY;
    }
    struct text written = {source->json, measured.size, 0};
    put_request(&written, request);
    atomic_init(&source->cancelled, false);
    source->size = written.size;
    (*call)->source = source;
    return CHANSERV_READY;
}

static chanserv_status whoami_poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    (void)error;
    chanserv_status status = sink->add(sink, "", 0, call->source);
    if (status == CHANSERV_READY) {
        call->source = NULL; /* belongs to the host now, which closes it */
        return CHANSERV_END;
    }
    /* Not taken. If the sink was full, offer the source again in the next poll. */
    return status == CHANSERV_FULL ? CHANSERV_READY : status;
}

static chanserv_status whoami_poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    if (atomic_load(&source->cancelled)) {
        snprintf(error->message, error->capacity, "cancelled");
        return CHANSERV_ERROR_INTERNAL;
    }
    chanserv_status status = sink->append(sink, source->json, source->size);
    if (status == CHANSERV_READY) {
        return CHANSERV_END;
    }
    return status == CHANSERV_FULL ? CHANSERV_READY : status;
}

static void whoami_cancel_source(chanserv_source *source) {
    atomic_store(&source->cancelled, true);
}

static void whoami_close_source(chanserv_source *source) {
    free(source);
}

/* No poll of a call waits or takes long, so there is nothing to interrupt. */
static void whoami_cancel_call(chanserv_call *call) {
    (void)call;
}

static void whoami_close_call(chanserv_call *call) {
    free(call->source); /* NULL unless the host closed the call before its sink took the source */
    free(call);
}

static void whoami_destroy(chanserv_instance *instance) {
    free(instance);
}

static const chanserv_plugin whoami_plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    /* Every function allocates, writes a few kilobytes or frees memory, so it may run on an event loop. */
    .flags = CHANSERV_PLUGIN_INLINE,
    .name = "whoami",
    .version = "1.0.0",
    .create = whoami_create,
    .destroy = whoami_destroy,
    .open = whoami_open,
    .poll_sources = whoami_poll_sources,
    .cancel_call = whoami_cancel_call,
    .close_call = whoami_close_call,
    .poll_frames = whoami_poll_frames,
    .cancel_source = whoami_cancel_source,
    .close_source = whoami_close_source,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) {
    return &whoami_plugin;
}
