/*
 * Candidate: a plugin whose versions behave well or badly. Each request is answered with one frame: the version.
 *
 * The test writes the digits of the mark into the built file: the version, the percentage of requests that fail, the
 * time of a request in milliseconds, and the number of requests after which the process ends (0: never).
 */
#include "chanserv_plugin.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Not static, so that the compiler keeps it variable. */
char candidate_mark[] = "CANDIDATE:0000:00:000:0000";
enum { VERSION = 10, FAILS = 15, MILLISECONDS = 18, CRASHES = 22 };

struct chanserv_instance {
    atomic_long requests;
};

static chanserv_status create(const chanserv_host *host, const chanserv_config *config, chanserv_instance **instance,
                              chanserv_error *error) {
    (void)host, (void)config, (void)error;
    *instance = calloc(1, sizeof **instance);
    return CHANSERV_READY;
}

static void destroy(chanserv_instance *instance) { free(instance); }

static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                 chanserv_error *error) {
    (void)request;
    long number = atomic_fetch_add(&instance->requests, 1) + 1;
    usleep(1000u * (unsigned)atoi(&candidate_mark[MILLISECONDS]));
    int crashes = atoi(&candidate_mark[CRASHES]);
    if (crashes > 0 && number >= crashes) abort();
    /* 37 and 100 have no common factor, so the failures are spread evenly. */
    if (number * 37 % 100 < atoi(&candidate_mark[FAILS])) {
        snprintf(error->message, error->capacity, "version %.4s fails", &candidate_mark[VERSION]);
        return CHANSERV_ERROR_INTERNAL;
    }
    *call = malloc(1);
    return CHANSERV_READY;
}

static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    (void)call, (void)error;
    sink->add(sink, "", 0, malloc(1));
    return CHANSERV_END;
}

static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    (void)source, (void)error;
    sink->append(sink, &candidate_mark[VERSION], 4);
    return CHANSERV_END;
}

static void cancel_call(chanserv_call *call) { (void)call; }
static void close_call(chanserv_call *call) { free(call); }
static void cancel_source(chanserv_source *source) { (void)source; }
static void close_source(chanserv_source *source) { free(source); }

static const chanserv_plugin candidate = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    .flags = CHANSERV_PLUGIN_BLOCKING,
    .name = "candidate",
    .version = "1",
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

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &candidate; }
