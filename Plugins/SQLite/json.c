#define _GNU_SOURCE
#include "json.h"

#include "utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_clear(struct json *json) {
    json->size = 0;
    json->is_over = false;
    json->no_memory = false;
}

void json_free(struct json *json) {
    free(json->bytes);
    json->bytes = NULL;
    json->capacity = 0;
    json_clear(json);
}

/* Reserves `size` more bytes, which count as written; NULL if that is not possible. */
static char *extend(struct json *json, size_t size) {
    if (json->is_over || json->no_memory) {
        return NULL;
    }
    if (size > json->bound - json->size) {
        json->is_over = true;
        return NULL;
    }
    size_t needed = json->size + size;
    if (needed > json->capacity) {
        size_t capacity = json->capacity < 512 ? 512 : json->capacity * 2;
        capacity = capacity > needed ? capacity : needed;
        char *grown = realloc(json->bytes, capacity);
        if (grown == NULL) {
            json->no_memory = true;
            return NULL;
        }
        json->bytes = grown;
        json->capacity = capacity;
    }
    json->size = needed;
    return json->bytes + needed - size;
}

static void append(struct json *json, const char *text, size_t size) {
    char *to = size > 0 ? extend(json, size) : NULL;
    if (to != NULL) {
        memcpy(to, text, size);
    }
}

void json_raw(struct json *json, const char *text) {
    append(json, text, strlen(text));
}

void json_integer(struct json *json, int64_t number) {
    char text[24];
    append(json, text, (size_t)snprintf(text, sizeof text, "%" PRId64, number));
}

void json_real(struct json *json, double number) {
    if (isinf(number)) {
        json_raw(json, number > 0 ? "9e999" : "-9e999");
        return;
    }
    char text[40];
    int size = 0;
    for (int digits = 15; digits <= 17; digits++) {
        size = snprintf(text, sizeof text - 2, "%.*g", digits, number);
        if (strtod(text, NULL) == number) {
            break;
        }
    }
    if (strpbrk(text, ".e") == NULL) {
        memcpy(text + size, ".0", 2);
        size += 2;
    }
    append(json, text, (size_t)size);
}

static void append_escaped(struct json *json, const char *text, size_t size) {
    /* Text without escapes is copied in one piece. */
    size_t plain = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7F) {
            continue;
        }
        append(json, text + plain, i - plain);
        plain = i + 1;
        char escape[8];
        int length = byte == '"' || byte == '\\' ? snprintf(escape, sizeof escape, "\\%c", byte)
                     : byte == '\n'              ? snprintf(escape, sizeof escape, "\\n")
                     : byte == '\t'              ? snprintf(escape, sizeof escape, "\\t")
                                                 : snprintf(escape, sizeof escape, "\\u%04x", byte);
        append(json, escape, (size_t)length);
    }
    append(json, text + plain, size - plain);
}

static void append_base64(struct json *json, const unsigned char *bytes, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to = extend(json, (size + 2) / 3 * 4);
    if (to == NULL) {
        return;
    }
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[group & 63] : '=';
    }
}

static bool is_utf8(const char *text, size_t size) {
    while (size > 0) {
        size_t length = utf8_length(text, size);
        if (length == 0) {
            return false;
        }
        text += length;
        size -= length;
    }
    return true;
}

void json_text(struct json *json, const char *text, size_t size) {
    if (is_utf8(text, size)) {
        json_raw(json, "\"");
        append_escaped(json, text, size);
        json_raw(json, "\"");
    } else {
        json_raw(json, "{\"text_base64\":\"");
        append_base64(json, (const unsigned char *)text, size);
        json_raw(json, "\"}");
    }
}

void json_blob(struct json *json, const void *bytes, size_t size) {
    json_raw(json, "{\"base64\":\"");
    append_base64(json, bytes, size);
    json_raw(json, "\"}");
}
