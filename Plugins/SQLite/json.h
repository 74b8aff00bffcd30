/* A JSON writer with a growing but bounded buffer. */
#ifndef SQLITE_JSON_H
#define SQLITE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A zeroed struct with a bound is empty. Its content stays until json_clear. */
struct json {
    char *bytes;
    size_t size, capacity;
    size_t bound;   /* maximum bytes; text beyond it is dropped */
    bool is_over;   /* text was dropped because of the bound */
    bool no_memory; /* text was dropped because an allocation failed */
};

void json_clear(struct json *json);
void json_free(struct json *json);

/* Appends a text without escaping. */
void json_raw(struct json *json, const char *text);
void json_integer(struct json *json, int64_t number);
/*
 * Appends the number with 15, 16 or 17 digits, the fewest that read back to the same double. It always has a point or
 * an exponent, so that it is not an integer (2.0). Infinity is written as 9e999.
 */
void json_real(struct json *json, double number);
/*
 * Appends a string. Text that is not UTF-8 becomes {"text_base64":"…"}, so that no byte is lost. No other value is an
 * object with this key.
 */
void json_text(struct json *json, const char *text, size_t size);
/* Appends {"base64":"…"}. */
void json_blob(struct json *json, const void *bytes, size_t size);

#endif
