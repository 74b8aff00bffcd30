#define _GNU_SOURCE
#include "fail.h"

#include "utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*
 * Replaces every byte that is not part of a UTF-8 character. Names may be any bytes, and snprintf may cut a character.
 */
static void make_utf8(char *text) {
    size_t left = strlen(text);
    while (left > 0) {
        size_t length = utf8_length(text, left);
        if (length == 0) {
            *text = '?';
            length = 1;
        }
        text += length;
        left -= length;
    }
}

chanserv_status fail(chanserv_error *error, chanserv_status status, const char *format, ...) {
    if (error->capacity > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->message, error->capacity, format, arguments);
        va_end(arguments);
        make_utf8(error->message);
    }
    return status;
}

chanserv_status fail_errno(chanserv_error *error, int code, const char *problem, const char *path) {
    chanserv_status status = CHANSERV_ERROR_INTERNAL;
    if (code == ENOENT || code == ENOTDIR || code == EACCES || code == EPERM || code == ELOOP || code == ENAMETOOLONG) {
        /*
         * For the client the file does not exist. This is not a failure of the plugin: such a request must not withdraw
         * a route.
         */
        status = CHANSERV_ERROR_NOT_FOUND;
    } else if (code == EMFILE || code == ENFILE || code == ENOMEM) {
        status = CHANSERV_ERROR_BUSY;
    }
    char text[128];
    return fail(error, status, "%s: %s: %s", path, problem, strerror_r(code, text, sizeof text));
}

void log_line(const chanserv_host *host, int32_t level, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_utf8(text);
    host->log(host, level, text, strlen(text));
}
