#define _GNU_SOURCE
#include "instr.h"

#include <string.h>

/* What is part of the character before it. */
static bool continues(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* Where the second is first found in the first, from 1: bytes where both are blobs, or else characters; 0 for nowhere. */
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
    /* Not in the middle of a character, which only texts that are no UTF-8 come to. */
    while (at != NULL && !blobs && at > text[0] && continues(*at)) {
        at++;
        at = memmem(at, size[0] - (size_t)(at - text[0]), text[1], size[1]);
    }
    sqlite3_int64 position = 0;
    if (at != NULL) {
        position = 1;
        for (const char *byte = text[0]; byte < at; byte++) {
            /* A character begins after the one before it: each byte that begins one, but for the first, is another. */
            position += blobs || !continues(byte[1]);
        }
    }
    sqlite3_result_int64(context, position);
}

int replace_instr(struct connection *connection) {
    int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC;
#ifdef SQLITE_INNOCUOUS
    flags |= SQLITE_INNOCUOUS; /* views and indexes of the schema may have it */
#endif
    return sqlite3_create_function(connection->handle, "instr", 2, flags, connection, instr, NULL, NULL);
}
