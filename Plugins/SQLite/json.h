/* A JSON writer with a buffer that grows up to a limit. */
#ifndef SQLITE_JSON_H
#define SQLITE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The writer. Zero all fields except `bound` to make an empty one. The output is valid until json_clear. */
struct json {
    char *bytes;
    size_t size, capacity;
    size_t bound;   /* maximum bytes of output; a write beyond it is dropped */
    bool is_over;   /* a write was dropped because of `bound`; all later writes are dropped too */
    bool no_memory; /* a write was dropped because there was no memory; all later writes are dropped too */
};

void json_clear(struct json *json);
void json_free(struct json *json);

/* Appends `text` unchanged. */
void json_raw(struct json *json, const char *text);
void json_integer(struct json *json, int64_t number);
/*
 * Appends the first of 15, 16 or 17 digits that reads back to the same number. The text always has a point or an
 * exponent, so that 2.0 is not an integer. Infinity is 9e999.
 */
void json_real(struct json *json, double number);
/*
 * Appends a string, or {"text_base64":"…"} if the text is not UTF-8. The object is lossless and unambiguous: no other
 * value is an object with this key.
 */
void json_text(struct json *json, const char *text, size_t size);
/* Appends {"base64":"…"}. */
void json_blob(struct json *json, const void *bytes, size_t size);

#endif
