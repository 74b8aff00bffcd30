/* Reads JSON. Each function takes what is next, and refuses the text if that is something else. */
#ifndef FILES_JSON_H
#define FILES_JSON_H

#include <stdbool.h>
#include <stdint.h>

/* The text from `at` to `end` is not read yet. After a problem, the first one stays, and values have no meaning. */
struct json {
    const char *at, *end;
    const char *problem; /* NULL until there is one */
};

/* Reads the value of a member of an object. */
typedef void json_member(struct json *json, const char *key, void *context);

void json_refuse(struct json *json, const char *problem);
void json_skip_space(struct json *json);
/* Takes a character if it is next. */
bool json_take(struct json *json, char character);
void json_need(struct json *json, char character);
/* Reads a string. The caller frees it. Returns NULL after a problem. */
char *json_string(struct json *json);
/* Reads an integer that is not negative; also one in quotation marks, because JSON numbers may lose digits. */
uint64_t json_number(struct json *json);
bool json_boolean(struct json *json);
/* Calls `member` for each member of an object. */
void json_object(struct json *json, json_member *member, void *context);

#endif
