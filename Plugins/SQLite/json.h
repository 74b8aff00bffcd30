/* JSON, written into a buffer that grows up to a bound. */
#ifndef SQLITE_JSON_H
#define SQLITE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed but for the bound it is an empty one. What was written stays until json_clear. */
struct json {
    char *bytes;
    size_t size, capacity;
    size_t bound;   /* in bytes; what would go past it is left out */
    bool is_over;   /* something was */
    bool no_memory; /* or there was none for it */
};

void json_clear(struct json *json);
void json_free(struct json *json);

/* As it stands. */
void json_raw(struct json *json, const char *text);
void json_integer(struct json *json, int64_t number);
/* As few digits as read back to the very number, with a point or an exponent: 2.0 is no integer. Infinity is 9e999. */
void json_real(struct json *json, double number);
/*
 * A string, or where the text is not UTF-8 {"text_base64":"…"}: nothing is lost, and nothing is taken for something else,
 * for no other value is an object with this key.
 */
void json_text(struct json *json, const char *text, size_t size);
/* {"base64":"…"} */
void json_blob(struct json *json, const void *bytes, size_t size);

#endif
