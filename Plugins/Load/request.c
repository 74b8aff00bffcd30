#include "request.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 6
/* Maximum characters of a word in a message. */
#define SHOWN_MAX 24

struct word {
    const char *text;
    size_t size;
};

static chanserv_status bad_request(chanserv_error *error, const char *name, struct word word, const char *wanted) {
    char shown[SHOWN_MAX + 1];
    size_t size = word.size < SHOWN_MAX ? word.size : SHOWN_MAX;
    for (size_t i = 0; i < size; i++) {
        shown[i] = word.text[i] >= ' ' && word.text[i] <= '~' ? word.text[i] : '?';
    }
    shown[size] = '\0';
    snprintf(error->message, error->capacity, "bad request: %s is '%s%s', not %s", name, shown,
             word.size > size ? "..." : "", wanted);
    return CHANSERV_ERROR_BAD_REQUEST;
}

static bool is_blank(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static bool is_word(struct word word, const char *name) {
    return strlen(name) == word.size && memcmp(name, word.text, word.size) == 0;
}

/* Splits the text into words. Returns their number, at most WORDS_MAX + 1. */
static size_t split(const char *text, size_t size, struct word *words) {
    size_t count = 0;
    for (size_t at = 0; count <= WORDS_MAX;) {
        while (at < size && is_blank(text[at])) {
            at++;
        }
        size_t begin = at;
        while (at < size && !is_blank(text[at])) {
            at++;
        }
        if (begin == at) {
            break;
        }
        if (count < WORDS_MAX) {
            words[count] = (struct word){text + begin, at - begin};
        }
        count++;
    }
    return count;
}

static chanserv_status parse_number(uint64_t *number, uint64_t maximum, const char *name, struct word word,
                                    chanserv_error *error) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "a whole number from 0 to %" PRIu64, maximum);
    *number = 0;
    for (size_t i = 0; i < word.size; i++) {
        /* The number so far is at most `maximum`, so the multiplication cannot overflow. */
        if (word.text[i] < '0' || word.text[i] > '9' ||
            (*number = *number * 10 + (uint64_t)(word.text[i] - '0')) > maximum) {
            return bad_request(error, name, word, wanted);
        }
    }
    return CHANSERV_READY;
}

/* Parses digits with an optional point. It does not use strtod, whose decimal point depends on the locale. */
static chanserv_status parse_rate(double *rate, struct word word, chanserv_error *error) {
    double digits = 0, scale = 1;
    bool point = false, any = false;
    for (size_t i = 0; i < word.size && i < 32; i++) {
        char byte = word.text[i];
        if (byte == '.' && !point) {
            point = true;
        } else if (byte >= '0' && byte <= '9') {
            any = true;
            digits = digits * 10 + (byte - '0');
            scale = point ? scale * 10 : scale;
        } else {
            any = false;
            break;
        }
    }
    *rate = digits / scale;
    if (!any || word.size > 32 || *rate > RATE_MAX) {
        return bad_request(error, "RATE", word, "a number of frames per second from 0 to 1000000");
    }
    return CHANSERV_READY;
}

static chanserv_status parse_kind(enum content_kind *kind, struct word word, chanserv_error *error) {
    for (int i = 0; i < CONTENT_KINDS; i++) {
        if (is_word(word, content_names[i])) {
            *kind = (enum content_kind)i;
            return CHANSERV_READY;
        }
    }
    return bad_request(error, "KIND", word, "zero, text, random or magic");
}

chanserv_status request_parse(struct load_request *request, const char *text, size_t size, chanserv_error *error) {
    struct word words[WORDS_MAX];
    size_t count = split(text, size, words);
    request->lends = count > 4 && count <= WORDS_MAX && is_word(words[count - 1], "lend");
    count -= request->lends;
    if (count < 4 || count > 5) {
        snprintf(error->message, error->capacity, "bad request: expected SOURCES FRAMES SIZE KIND [RATE] [lend], such "
                                                  "as '10 500 1048576 random lend' or '3 100 64 text 10'");
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    uint64_t frame_size;
    chanserv_status status = parse_number(&request->sources, SOURCES_MAX, "SOURCES", words[0], error);
    if (status == CHANSERV_READY) {
        status = parse_number(&request->frames, FRAMES_MAX, "FRAMES", words[1], error);
    }
    if (status == CHANSERV_READY) {
        status = parse_number(&frame_size, SIZE_MAX_BYTES, "SIZE", words[2], error);
    }
    if (status == CHANSERV_READY) {
        request->size = (size_t)frame_size;
        status = parse_kind(&request->kind, words[3], error);
    }
    request->rate = 0;
    if (status == CHANSERV_READY && count == 5) {
        status = parse_rate(&request->rate, words[4], error);
    }
    return status;
}
