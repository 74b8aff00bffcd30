#define _GNU_SOURCE
#include "request/options.h"

#include "fail.h"
#include "request/json.h"

#include <stdlib.h>
#include <string.h>

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

static void read_position(struct json *json, const char *key, void *context) {
    struct resume *resume = context;
    bool encoded = strcmp(key, "path_base64") == 0;
    if (encoded || strcmp(key, "path") == 0) {
        char *path = json_string(json);
        if (path != NULL && encoded && !decode_base64(path)) {
            json_refuse(json, "has a path_base64 that is not base64");
        }
        if (path == NULL || (resume->path != NULL && !encoded)) {
            free(path); /* path_base64 is exact */
        } else {
            free(resume->path);
            resume->path = path;
        }
    } else if (strcmp(key, "inode") == 0) {
        resume->inode = json_number(json);
    } else if (strcmp(key, "offset") == 0) {
        uint64_t offset = json_number(json);
        if (offset > INT64_MAX / 2) {
            json_refuse(json, "has an offset that is too large");
        }
        resume->offset = (off_t)offset;
    } else if (strcmp(key, "stream") == 0) {
        char *text = json_string(json);
        char *end = text;
        resume->stream = text == NULL ? 0 : strtoull(text, &end, 16);
        if (text != NULL && (*end != '.' || end == text)) {
            json_refuse(json, "has a stream that is not from a header");
        } else if (text != NULL) {
            resume->number = strtoull(end + 1, NULL, 16);
        }
        free(text);
    } else if (strcmp(key, "size") == 0) {
        json_number(json); /* a whole header is accepted */
    } else if (strcmp(key, "mtime") == 0) {
        free(json_string(json));
    } else {
        json_refuse(json, "has a position with an unknown member; path, inode, offset and stream are known");
    }
}

static void read_option(struct json *json, const char *key, void *context) {
    struct options *options = context;
    if (strcmp(key, "follow") == 0) {
        bool follow = json_boolean(json);
        if (follow && !options->follow) {
            json_refuse(json, "asks for `follow`, which the configuration of this route does not allow");
        }
        options->follow = follow;
    } else if (strcmp(key, "new_files") == 0) {
        options->new_files = json_boolean(json);
    } else if (strcmp(key, "decompress") == 0) {
        options->decompress = json_boolean(json);
    } else if (strcmp(key, "tail") == 0) {
        uint64_t tail = json_number(json);
        if (tail > TAIL_MAX) {
            json_refuse(json, "has a `tail` above 1000000");
        }
        options->tail = (int64_t)tail;
    } else if (strcmp(key, "resume") == 0) {
        json_need(json, '[');
        if (json_take(json, ']')) {
            return;
        }
        do {
            if (options->resumes == RESUMES_MAX) {
                json_refuse(json, "has more than 4096 positions");
                return;
            }
            struct resume *grown =
                reallocarray(options->resume, options->resumes + 1, sizeof *options->resume);
            if (grown == NULL) {
                json_refuse(json, "needs more memory than there is");
                return;
            }
            options->resume = grown;
            struct resume *resume = &grown[options->resumes++];
            *resume = (struct resume){0};
            json_object(json, read_position, resume);
            if (resume->path == NULL || (resume->inode == 0 && resume->stream == 0)) {
                json_refuse(json, "has a position without path or inode");
            }
        } while (json_take(json, ','));
        json_need(json, ']');
    } else {
        json_refuse(json, "has an unknown option; follow, new_files, decompress, tail and resume are known");
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
    struct json json = {.at = body, .end = body + length};
    options->given = true;
    json_object(&json, read_option, options);
    json_skip_space(&json);
    if (json.at < json.end) {
        json_refuse(&json, "is not one JSON object");
    }
    if (json.problem != NULL) {
        options_free(options);
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "line 1 (options, near byte %zu) %s", (size_t)(json.at - body),
                    json.problem);
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
