#include "request/json.h"

#include <stdlib.h>
#include <string.h>

void json_refuse(struct json *json, const char *problem) {
    if (json->problem == NULL) {
        json->problem = problem;
    }
}

void json_skip_space(struct json *json) {
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\t' || *json->at == '\r')) {
        json->at++;
    }
}

bool json_take(struct json *json, char character) {
    json_skip_space(json);
    if (json->problem != NULL || json->at == json->end || *json->at != character) {
        return false;
    }
    json->at++;
    return true;
}

void json_need(struct json *json, char character) {
    if (!json_take(json, character)) {
        json_refuse(json, "is not valid JSON");
    }
}

static bool hexadecimal(struct json *json, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        if (json->at == json->end) {
            return false;
        }
        char c = *json->at++;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit > 15) {
            return false;
        }
        *code = *code * 16 + digit;
    }
    return true;
}

static char *put_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *to++ = (char)(0xE0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    } else {
        *to++ = (char)(0xF0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    }
    return to;
}

char *json_string(struct json *json) {
    json_need(json, '"');
    if (json->problem != NULL) {
        return NULL;
    }
    const char *close = json->at;
    while (close < json->end && *close != '"') {
        close += *close == '\\' && close + 1 < json->end ? 2 : 1;
    }
    /* Escapes only become shorter. */
    char *text = malloc((size_t)(close - json->at) + 1), *to = text;
    while (text != NULL && json->at < json->end && *json->at != '"') {
        char c = *json->at++;
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        char escaped = json->at < json->end ? *json->at++ : 'x';
        static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
        const char *known = memchr(from, escaped, sizeof from - 1);
        uint32_t code, low;
        if (known != NULL) {
            *to++ = into[known - from];
        } else if (escaped == 'u' && hexadecimal(json, &code) && code != 0) {
            if (code >= 0xD800 && code < 0xDC00 && json->end - json->at >= 6 && json->at[0] == '\\' &&
                json->at[1] == 'u') {
                json->at += 2;
                if (hexadecimal(json, &low) && low >= 0xDC00 && low < 0xE000) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
            }
            to = put_utf8(to, code);
        } else {
            json_refuse(json, "has an invalid escape in a string");
            break;
        }
    }
    if (text == NULL || json->at == json->end) {
        json_refuse(json, text == NULL ? "needs more memory than there is" : "has a string without an end");
    }
    if (json->problem != NULL) {
        free(text);
        return NULL;
    }
    json->at++;
    *to = '\0';
    return text;
}

uint64_t json_number(struct json *json) {
    bool quoted = json_take(json, '"');
    json_skip_space(json);
    uint64_t value = 0;
    bool any = false;
    for (; json->at < json->end && *json->at >= '0' && *json->at <= '9'; json->at++) {
        any = true;
        if (value > (UINT64_MAX - 9) / 10) {
            json_refuse(json, "has a number that is too large");
            return 0;
        }
        value = value * 10 + (uint64_t)(*json->at - '0');
    }
    if (!any || (json->at < json->end && strchr(".eE", *json->at) != NULL)) {
        json_refuse(json, "has a value that is not an integer from 0 on where one is needed");
    }
    if (quoted) {
        json_need(json, '"');
    }
    return value;
}

bool json_boolean(struct json *json) {
    json_skip_space(json);
    size_t left = (size_t)(json->end - json->at);
    if (left >= 4 && memcmp(json->at, "true", 4) == 0) {
        json->at += 4;
        return true;
    }
    if (left >= 5 && memcmp(json->at, "false", 5) == 0) {
        json->at += 5;
    } else {
        json_refuse(json, "has a value that is neither true nor false where one of them is needed");
    }
    return false;
}

void json_object(struct json *json, json_member *member, void *context) {
    json_need(json, '{');
    if (json_take(json, '}')) {
        return;
    }
    do {
        char *key = json_string(json);
        json_need(json, ':');
        if (json->problem == NULL) {
            member(json, key, context);
        }
        free(key);
    } while (json_take(json, ','));
    json_need(json, '}');
}
