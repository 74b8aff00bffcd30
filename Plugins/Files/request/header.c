#define _GNU_SOURCE
#include "request/header.h"

#include "utf8.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Appends the text with JSON escapes, at most six bytes for each byte. Returns false if it is not UTF-8. */
static bool append_escaped(char **to, const char *text, size_t size) {
    bool valid = true;
    while (size > 0) {
        uint32_t code;
        size_t length = utf8_decode(text, size, &code);
        if (length == 0) {
            valid = false;
            *to = stpcpy(*to, "\xEF\xBF\xBD");
            length = 1;
        } else if (code < 0x20 || code == 0x7F) {
            *to += sprintf(*to, "\\u%04x", (unsigned)code);
        } else {
            if (code == '"' || code == '\\') {
                *(*to)++ = '\\';
            }
            *to = mempcpy(*to, text, length);
        }
        text += length;
        size -= length;
    }
    return valid;
}

static void append_base64(char **to, const char *text, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        *(*to)++ = digits[group >> 18];
        *(*to)++ = digits[group >> 12 & 63];
        *(*to)++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *(*to)++ = left > 2 ? digits[group & 63] : '=';
    }
}

char *header_json(const char *path, const struct stat *status, const struct resume *position, size_t *size) {
    size_t length = strlen(path);
    char *json = malloc(length * 6 + (length + 2) / 3 * 4 + 320);
    if (json == NULL) {
        return NULL;
    }
    char *to = stpcpy(json, "{\"path\":\"");
    bool valid = append_escaped(&to, path, length);
    if (!valid) {
        to = stpcpy(to, "\",\"path_base64\":\"");
        append_base64(&to, path, length);
    }
    struct tm time;
    char date[64] = "1970-01-01T00:00:00";
    if (gmtime_r(&status->st_mtim.tv_sec, &time) != NULL) {
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &time);
    }
    to += sprintf(to, "\",\"size\":%" PRIdMAX ",\"mtime\":\"%s.%09ldZ\"", (intmax_t)status->st_size, date,
                  status->st_mtim.tv_nsec);
    if (position != NULL) {
        to += sprintf(to, ",\"inode\":%" PRIu64 ",\"offset\":%" PRIdMAX, position->inode, (intmax_t)position->offset);
        if (position->stream != 0) {
            to += sprintf(to, ",\"stream\":\"%" PRIx64 ".%" PRIx64 "\"", position->stream, position->number);
        }
    }
    to = stpcpy(to, "}");
    *size = (size_t)(to - json);
    return json;
}
