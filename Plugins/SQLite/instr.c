#define _GNU_SOURCE
#include "instr.h"

#include <string.h>

/* Whether a byte continues a UTF-8 character. */
static bool continues(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/*
 * Returns the position of the second value in the first, from 1; 0 if it does not occur. Counts bytes if both are
 * blobs, otherwise characters.
 */
static void instr(sqlite3_context *context, int count, sqlite3_value **values) {
    (void)count;
    struct connection *connection = sqlite3_user_data(context);
    if (connection_must_stop(connection)) {
        sqlite3_result_error_code(context, SQLITE_INTERRUPT);
        return;
    }
    if (sqlite3_value_type(values[0]) == SQLITE_NULL || sqlite3_value_type(values[1]) == SQLITE_NULL) {
        return;
    }
    bool blobs = sqlite3_value_type(values[0]) == SQLITE_BLOB && sqlite3_value_type(values[1]) == SQLITE_BLOB;
    const char *text[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        text[i] = blobs ? sqlite3_value_blob(values[i]) : (const char *)sqlite3_value_text(values[i]);
        size[i] = (size_t)sqlite3_value_bytes(values[i]);
        if (text[i] == NULL && size[i] > 0) {
            sqlite3_result_error_nomem(context);
            return;
        }
    }
    if (size[1] == 0) {
        sqlite3_result_int(context, 1);
        return;
    }
    const char *at = text[0] != NULL ? memmem(text[0], size[0], text[1], size[1]) : NULL;
    /* A match inside a character is skipped. It occurs only in texts that are not UTF-8. */
    while (at != NULL && !blobs && at > text[0] && continues(*at)) {
        at++;
        at = memmem(at, size[0] - (size_t)(at - text[0]), text[1], size[1]);
    }
    sqlite3_int64 position = 0;
    if (at != NULL) {
        position = 1;
        for (const char *byte = text[0]; byte < at; byte++) {
            /* Each byte before `at` whose successor begins a character adds one to the position. */
            position += blobs || !continues(byte[1]);
        }
    }
    sqlite3_result_int64(context, position);
}

int replace_instr(struct connection *connection) {
    int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC;
#ifdef SQLITE_INNOCUOUS
    flags |= SQLITE_INNOCUOUS; /* views and indexes of the schema may use it */
#endif
    return sqlite3_create_function(connection->handle, "instr", 2, flags, connection, instr, NULL, NULL);
}
