/* A request: SOURCES FRAMES SIZE KIND [RATE] [lend], separated by blanks. */
#ifndef LOAD_REQUEST_H
#define LOAD_REQUEST_H

#include "chanserv_plugin.h"
#include "content.h"

#include <stdbool.h>
#include <stdint.h>

#define SOURCES_MAX UINT64_C(1000000)
#define FRAMES_MAX UINT64_C(4294967295) /* limits the number to 8 hexadecimal digits */
#define SIZE_MAX_BYTES ((uint64_t)CHANSERV_FRAME_SIZE_MAX)
#define RATE_MAX 1000000.0

struct load_request {
    uint64_t sources;
    uint64_t frames; /* of each source */
    size_t size;     /* of each frame, bytes */
    enum content_kind kind;
    double rate; /* frames per second of each source; 0: as fast as they are requested */
    bool lends;  /* frames of LENT_MIN bytes and more are lent to the host */
};

/* Returns CHANSERV_READY, or CHANSERV_ERROR_BAD_REQUEST and a message. */
chanserv_status request_parse(struct load_request *request, const char *text, size_t size, chanserv_error *error);

#endif
