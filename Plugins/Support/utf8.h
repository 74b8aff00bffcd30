/* Decodes one UTF-8 character. */
#ifndef PLUGIN_UTF8_H
#define PLUGIN_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * Decodes the character at `bytes`, which has `size` bytes, at least one, into *code and returns its length. Returns 0
 * for invalid UTF-8: stray or missing continuation bytes, overlong forms, surrogates, and values above U+10FFFF.
 */
static inline size_t utf8_decode(const char *bytes, size_t size, uint32_t *code) {
    const unsigned char *p = (const unsigned char *)bytes;
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    size_t length = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || length > size) {
        return 0;
    }
    uint32_t value = p[0] & (0xFFu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
        value = value << 6 | (p[i] & 0x3F);
    }
    if (value < smallest[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        return 0;
    }
    *code = value;
    return length;
}

/* As utf8_decode(), for a caller that needs only the length. */
static inline size_t utf8_length(const char *bytes, size_t size) {
    uint32_t code;
    return utf8_decode(bytes, size, &code);
}

#endif
