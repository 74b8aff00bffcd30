/*
 * The parsed request: SOURCES FRAMES SIZE KIND [RATE] [lend], separated by white space.
 */
#ifndef LOAD_REQUEST_H
#define LOAD_REQUEST_H

#include "chanserv_plugin.h"
#include "content.h"

#include <stdbool.h>
#include <stdint.h>

#define SOURCES_MAX UINT64_C(1000000)
#define FRAMES_MAX UINT64_C(4294967295) /* the number must fit in 8 hexadecimal digits */
#define SIZE_MAX_BYTES ((uint64_t)CHANSERV_FRAME_SIZE_MAX)
#define RATE_MAX 1000000.0

struct load_request {
    uint64_t sources;
    uint64_t frames; /* per source */
    size_t size;     /* bytes per frame */
    enum content_kind kind;
    double rate; /* frames per second and source; 0: as fast as the host polls */
    bool lends;  /* frames of LENT_MIN bytes or more are lent to the host */
};

/* Parses a request. Returns CHANSERV_READY, or CHANSERV_ERROR_BAD_REQUEST and a message. */
chanserv_status request_parse(struct load_request *request, const char *text, size_t size, chanserv_error *error);

#endif
