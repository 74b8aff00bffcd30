#include "fail.h"

#include "utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*
 * Replaces every byte that is not part of a UTF-8 character. Names may be any bytes, and vsnprintf may cut a character.
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
