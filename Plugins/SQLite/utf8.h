/* Validates one UTF-8 character. */
#ifndef SQLITE_UTF8_H
#define SQLITE_UTF8_H

#include <stddef.h>

/*
 * Returns the length of the character at `text`, which has `size` bytes, at least one. Returns 0 for invalid UTF-8:
 * stray or missing continuation bytes, overlong forms, surrogates, and values above U+10FFFF.
 */
static inline size_t utf8_length(const char *text, size_t size) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) {
        return 1;
    }
    size_t length = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || length > size) {
        return 0;
    }
    /* The range of the second byte excludes overlong forms, surrogates and values that are too large. */
    unsigned char lowest = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char highest = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < lowest || p[1] > highest) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return length;
}

#endif
