#define _GNU_SOURCE
#include "options.h"

#include "fail.h"
#include "utf8.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON ---- */

struct parser {
    const char *at, *end;
    const char *problem; /* NULL until there is one */
};

static void refuse(struct parser *parser, const char *problem) {
    if (parser->problem == NULL) {
        parser->problem = problem;
    }
}

static void skip_space(struct parser *parser) {
    while (parser->at < parser->end && (*parser->at == ' ' || *parser->at == '\t' || *parser->at == '\r')) {
        parser->at++;
    }
}

/* Takes a character if it is next. */
static bool take(struct parser *parser, char character) {
    skip_space(parser);
    if (parser->problem != NULL || parser->at == parser->end || *parser->at != character) {
        return false;
    }
    parser->at++;
    return true;
}

static void need(struct parser *parser, char character) {
    if (!take(parser, character)) {
        refuse(parser, "is not valid JSON");
    }
}

static bool hexadecimal(struct parser *parser, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        if (parser->at == parser->end) {
            return false;
        }
        char c = *parser->at++;
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

/* Reads a string. The caller frees it. Returns NULL after a problem. */
static char *string(struct parser *parser) {
    need(parser, '"');
    if (parser->problem != NULL) {
        return NULL;
    }
    const char *close = parser->at;
    while (close < parser->end && *close != '"') {
        close += *close == '\\' && close + 1 < parser->end ? 2 : 1;
    }
    /* Escapes only become shorter. */
    char *text = malloc((size_t)(close - parser->at) + 1), *to = text;
    while (text != NULL && parser->at < parser->end && *parser->at != '"') {
        char c = *parser->at++;
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        char escaped = parser->at < parser->end ? *parser->at++ : 'x';
        static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
        const char *known = memchr(from, escaped, sizeof from - 1);
        uint32_t code, low;
        if (known != NULL) {
            *to++ = into[known - from];
        } else if (escaped == 'u' && hexadecimal(parser, &code) && code != 0) {
            if (code >= 0xD800 && code < 0xDC00 && parser->end - parser->at >= 6 && parser->at[0] == '\\' &&
                parser->at[1] == 'u') {
                parser->at += 2;
                if (hexadecimal(parser, &low) && low >= 0xDC00 && low < 0xE000) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
            }
            to = put_utf8(to, code);
        } else {
            refuse(parser, "has an invalid escape in a string");
            break;
        }
    }
    if (text == NULL || parser->at == parser->end) {
        refuse(parser, text == NULL ? "needs more memory than there is" : "has a string without an end");
    }
    if (parser->problem != NULL) {
        free(text);
        return NULL;
    }
    parser->at++;
    *to = '\0';
    return text;
}

/* Reads an integer that is not negative; also one in quotation marks, because JSON numbers may lose digits. */
static uint64_t number(struct parser *parser) {
    bool quoted = take(parser, '"');
    skip_space(parser);
    uint64_t value = 0;
    bool any = false;
    for (; parser->at < parser->end && *parser->at >= '0' && *parser->at <= '9'; parser->at++) {
        any = true;
        if (value > (UINT64_MAX - 9) / 10) {
            refuse(parser, "has a number that is too large");
            return 0;
        }
        value = value * 10 + (uint64_t)(*parser->at - '0');
    }
    if (!any || (parser->at < parser->end && strchr(".eE", *parser->at) != NULL)) {
        refuse(parser, "has a value that is not an integer from 0 on where one is needed");
    }
    if (quoted) {
        need(parser, '"');
    }
    return value;
}

static bool boolean(struct parser *parser) {
    skip_space(parser);
    size_t left = (size_t)(parser->end - parser->at);
    if (left >= 4 && memcmp(parser->at, "true", 4) == 0) {
        parser->at += 4;
        return true;
    }
    if (left >= 5 && memcmp(parser->at, "false", 5) == 0) {
        parser->at += 5;
    } else {
        refuse(parser, "has a value that is neither true nor false where one of them is needed");
    }
    return false;
}

/* Calls `member` for each member of an object. */
static void object(struct parser *parser, void (*member)(struct parser *parser, const char *key, void *context),
                   void *context) {
    need(parser, '{');
    if (take(parser, '}')) {
        return;
    }
    do {
        char *key = string(parser);
        need(parser, ':');
        if (parser->problem == NULL) {
            member(parser, key, context);
        }
        free(key);
    } while (take(parser, ','));
    need(parser, '}');
}

/* ---- Options ---- */

static int base64_digit(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Decodes in place. */
static bool decode_base64(char *text) {
    char *to = text;
    uint32_t group = 0;
    int bits = 0;
    for (const char *at = text; *at != '\0' && *at != '='; at++) {
        int digit = base64_digit(*at);
        if (digit < 0) {
            return false;
        }
        group = group << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *to++ = (char)(group >> bits & 0xFF);
        }
    }
    *to = '\0';
    return true;
}

static void read_position(struct parser *parser, const char *key, void *context) {
    struct resume *resume = context;
    bool encoded = strcmp(key, "path_base64") == 0;
    if (encoded || strcmp(key, "path") == 0) {
        char *path = string(parser);
        if (path != NULL && encoded && !decode_base64(path)) {
            refuse(parser, "has a path_base64 that is not base64");
        }
        if (path == NULL || (resume->path != NULL && !encoded)) {
            free(path); /* path_base64 is exact */
        } else {
            free(resume->path);
            resume->path = path;
        }
    } else if (strcmp(key, "inode") == 0) {
        resume->inode = number(parser);
    } else if (strcmp(key, "offset") == 0) {
        uint64_t offset = number(parser);
        if (offset > INT64_MAX / 2) {
            refuse(parser, "has an offset that is too large");
        }
        resume->offset = (off_t)offset;
    } else if (strcmp(key, "stream") == 0) {
        char *text = string(parser);
        char *end = text;
        resume->stream = text == NULL ? 0 : strtoull(text, &end, 16);
        if (text != NULL && (*end != '.' || end == text)) {
            refuse(parser, "has a stream that is not from a header");
        } else if (text != NULL) {
            resume->number = strtoull(end + 1, NULL, 16);
        }
        free(text);
    } else if (strcmp(key, "size") == 0) {
        number(parser); /* a whole header is accepted */
    } else if (strcmp(key, "mtime") == 0) {
        free(string(parser));
    } else {
        refuse(parser, "has a position with an unknown member; path, inode, offset and stream are known");
    }
}

static void read_option(struct parser *parser, const char *key, void *context) {
    struct options *options = context;
    if (strcmp(key, "follow") == 0) {
        bool follow = boolean(parser);
        if (follow && !options->follow) {
            refuse(parser, "asks for `follow`, which the configuration of this route does not allow");
        }
        options->follow = follow;
    } else if (strcmp(key, "new_files") == 0) {
        options->new_files = boolean(parser);
    } else if (strcmp(key, "decompress") == 0) {
        options->decompress = boolean(parser);
    } else if (strcmp(key, "tail") == 0) {
        uint64_t tail = number(parser);
        if (tail > TAIL_MAX) {
            refuse(parser, "has a `tail` above 1000000");
        }
        options->tail = (int64_t)tail;
    } else if (strcmp(key, "resume") == 0) {
        need(parser, '[');
        if (take(parser, ']')) {
            return;
        }
        do {
            if (options->resumes == RESUMES_MAX) {
                refuse(parser, "has more than 4096 positions");
                return;
            }
            struct resume *grown =
                reallocarray(options->resume, options->resumes + 1, sizeof *options->resume);
            if (grown == NULL) {
                refuse(parser, "needs more memory than there is");
                return;
            }
            options->resume = grown;
            struct resume *resume = &grown[options->resumes++];
            *resume = (struct resume){0};
            object(parser, read_position, resume);
            if (resume->path == NULL || (resume->inode == 0 && resume->stream == 0)) {
                refuse(parser, "has a position without path or inode");
            }
        } while (take(parser, ','));
        need(parser, ']');
    } else {
        refuse(parser, "has an unknown option; follow, new_files, decompress, tail and resume are known");
    }
}

/* Whether the first line has options. A pattern in braces does not begin with a quotation mark. */
static bool has_options(const char *line, size_t size) {
    if (size == 0 || *line != '{') {
        return false;
    }
    size_t at = 1;
    while (at < size && (line[at] == ' ' || line[at] == '\t')) {
        at++;
    }
    return at < size && (line[at] == '"' || line[at] == '}');
}

chanserv_status options_parse(struct options *options, const char *body, size_t size, size_t *used,
                              chanserv_error *error) {
    const char *ending = memchr(body, '\n', size);
    size_t length = ending != NULL ? (size_t)(ending - body) : size;
    *used = 0;
    if (!has_options(body, length)) {
        return CHANSERV_READY;
    }
    *used = ending != NULL ? length + 1 : length;
    if (length > OPTIONS_SIZE_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "the options are longer than 1 MiB");
    }
    struct parser parser = {.at = body, .end = body + length};
    options->given = true;
    object(&parser, read_option, options);
    skip_space(&parser);
    if (parser.at < parser.end) {
        refuse(&parser, "is not one JSON object");
    }
    if (parser.problem != NULL) {
        options_free(options);
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "line 1 (options, near byte %zu) %s", (size_t)(parser.at - body),
                    parser.problem);
    }
    return CHANSERV_READY;
}

void options_free(struct options *options) {
    for (size_t i = 0; i < options->resumes; i++) {
        free(options->resume[i].path);
    }
    free(options->resume);
    options->resume = NULL;
    options->resumes = 0;
}

const struct resume *options_resume(const struct options *options, const char *path) {
    for (size_t i = 0; i < options->resumes; i++) {
        if (strcmp(options->resume[i].path, path) == 0) {
            return &options->resume[i];
        }
    }
    return NULL;
}
