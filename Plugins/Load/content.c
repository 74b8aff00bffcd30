#include "content.h"

#include <stdio.h>
#include <string.h>

const char *const content_names[CONTENT_KINDS] = {
    [CONTENT_ZERO] = "zero", [CONTENT_TEXT] = "text", [CONTENT_RANDOM] = "random", [CONTENT_MAGIC] = "magic"};

#define RANDOM_SEED UINT64_C(0x6368616E73657276)
#define TEXT_SEED UINT64_C(0x6C6F6164)

/* The generator splitmix64. */
static uint64_t next_random(uint64_t *state) {
    uint64_t value = *state += UINT64_C(0x9E3779B97F4A7C15);
    value = (value ^ value >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ value >> 27) * UINT64_C(0x94D049BB133111EB);
    return value ^ value >> 31;
}

static void put_little_endian(unsigned char *bytes, uint64_t value) {
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
}

static void fill_random(unsigned char *block) {
    uint64_t state = RANDOM_SEED;
    for (size_t at = 0; at < CONTENT_BLOCK; at += 8) {
        put_little_endian(block + at, next_random(&state));
    }
}

static const char *const levels[4] = {"info", "info", "debug", "warning"};
static const char *const services[8] = {"quotes", "orders", "files",   "ledger",
                                        "router", "mailer", "archive", "session"};
static const char *const messages[16] = {
    "request accepted and handed over to the next free worker",
    "request served from the cache, nothing was fetched",
    "connection closed by the other side after the last frame",
    "connection opened, waiting for the first request to arrive",
    "the snapshot was written and the older one was removed",
    "the queue is half full, readers are slower than writers",
    "a client asked for a source that does not exist any more",
    "retrying after a pause, the other side did not answer in time",
    "user signed in from a device that was seen before",
    "user signed out, the session and its streams were closed",
    "the configuration was read again, nothing had changed",
    "checksum of the uploaded file matches what was announced",
    "the order was filled in full at the price of the last quote",
    "the order was rejected, the account has no such position",
    "the nightly export has begun and will take some minutes",
    "latency of the last hundred requests is within the budget",
};

/* Fills the block with lines of a log. The last line is truncated. */
static void fill_text(unsigned char *block) {
    uint64_t state = TEXT_SEED;
    size_t at = 0;
    for (uint64_t number = 0; at < CONTENT_BLOCK; number++) {
        uint64_t random = next_random(&state);
        uint64_t time = number * 137;
        char line[256];
        int length = snprintf(line, sizeof line, "2026-01-31T%02u:%02u:%02u.%03uZ %s %s: %s id=%08x ms=%u\n",
                              (unsigned)(time / 3600000 % 24), (unsigned)(time / 60000 % 60),
                              (unsigned)(time / 1000 % 60), (unsigned)(time % 1000), levels[random & 3],
                              services[random >> 8 & 7], messages[random >> 16 & 15], (unsigned)(random >> 32),
                              (unsigned)(random >> 24 & 255));
        size_t size = (size_t)length;
        if (size > CONTENT_BLOCK - at) {
            size = CONTENT_BLOCK - at;
        }
        memcpy(block + at, line, size);
        at += size;
    }
}

void content_fill(struct content *content) {
    fill_random(content->random);
    fill_text(content->text);
}

/* Returns the offset of a frame in the block: a multiple of 64, so that copies begin at a cache line. */
static size_t content_offset(uint64_t source, uint64_t number) {
    uint64_t mixed = source * UINT64_C(0x9E3779B97F4A7C15) + number * UINT64_C(0xC2B2AE3D27D4EB4F);
    return (size_t)(mixed >> 50) * 64;
}

static void put_hexadecimal(unsigned char *bytes, uint64_t value) {
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)"0123456789abcdef"[value >> (28 - 4 * i) & 15];
    }
}

/* Writes the head of a frame. Returns its length, at most 20 bytes. */
static size_t put_head(enum content_kind kind, uint64_t source, uint64_t number, unsigned char *head) {
    if (kind == CONTENT_TEXT) {
        put_hexadecimal(head, source);
        put_hexadecimal(head + 8, number);
        return 16;
    }
    size_t mark = 0;
    if (kind == CONTENT_MAGIC) {
        memcpy(head, "lz4!", 4);
        mark = 4;
    }
    put_little_endian(head + mark, source);
    put_little_endian(head + mark + 8, number);
    return mark + 16;
}

/* Writes the head into the frame. Returns its length in the frame. */
static size_t write_head(enum content_kind kind, uint64_t source, uint64_t number, unsigned char *frame, size_t size) {
    unsigned char head[20];
    size_t length = put_head(kind, source, number, head);
    if (length > size) {
        length = size;
    }
    memcpy(frame, head, length);
    return length;
}

static void write_frame(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                        size_t offset, unsigned char *frame, size_t size) {
    if (kind == CONTENT_ZERO) {
        memset(frame, 0, size);
        return;
    }
    size_t done = write_head(kind, source, number, frame, size);
    const unsigned char *block = kind == CONTENT_TEXT ? content->text : content->random;
    size_t at = (offset + done) % CONTENT_BLOCK;
    while (done < size) {
        size_t part = CONTENT_BLOCK - at;
        if (part > size - done) {
            part = size - done;
        }
        memcpy(frame + done, block + at, part);
        done += part;
        at = 0;
    }
}

void content_write(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                   unsigned char *frame, size_t size) {
    write_frame(content, kind, source, number, content_offset(source, number), frame, size);
}

void content_write_lent(const struct content *content, enum content_kind kind, uint64_t source, uint64_t number,
                        unsigned char *frame, size_t size) {
    write_frame(content, kind, source, number, 0, frame, size);
}

void content_change_head(enum content_kind kind, uint64_t source, uint64_t number, unsigned char *frame, size_t size) {
    if (kind != CONTENT_ZERO) {
        write_head(kind, source, number, frame, size);
    }
}
