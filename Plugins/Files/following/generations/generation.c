#include "following/generations/generation.h"

#include <string.h>

ssize_t head_try(int file, enum compression compression, char *head) {
    struct content content = {.file = file, .compression = compression};
    ssize_t count = content_read(&content, head, HEAD_SIZE, 0);
    content_drop(&content);
    return count;
}

size_t head_read(int file, enum compression compression, char *head) {
    ssize_t count = head_try(file, compression, head);
    return count > 0 ? (size_t)count : 0;
}

bool generation_has_head(const struct generation *generation, const char *head, size_t size) {
    size_t common = generation->head_size < size ? generation->head_size : size;
    return common > 0 && memcmp(generation->head, head, common) == 0;
}

bool generation_begins(const struct generation *generation, const char *head, size_t size) {
    return size >= generation->head_size && memcmp(head, generation->head, generation->head_size) == 0;
}

/* ---- Skipped bytes ---- */

bool generation_skip(struct generation *generation, off_t *from, off_t size) {
    off_t end = *from + size;
    for (size_t i = 0; i < generation->skips; i++) {
        off_t known = generation->skip[i].from + generation->skip[i].size;
        if (*from >= generation->skip[i].from && *from <= known) {
            *from = generation->skip[i].from;
            if (end <= known) {
                return false;
            }
            generation->skip[i].size = end - *from;
            return true;
        }
    }
    if (generation->skips < SKIPS_MAX &&
        (generation->skips == 0 || *from > generation->skip[generation->skips - 1].from)) {
        generation->skip[generation->skips].from = *from;
        generation->skip[generation->skips++].size = size;
    }
    return true;
}

off_t generation_delivered(const struct generation *generation) {
    off_t length = generation->end;
    for (size_t i = 0; i < generation->skips; i++) {
        length -= generation->skip[i].size;
    }
    return length > 0 ? length : 0;
}

off_t generation_position(const struct generation *generation, off_t offset) {
    off_t position = offset;
    for (size_t i = 0; i < generation->skips && generation->skip[i].from < offset; i++) {
        position -= generation->skip[i].size;
    }
    return position;
}

off_t generation_offset(const struct generation *generation, off_t position) {
    for (size_t i = 0; i < generation->skips && position >= generation->skip[i].from; i++) {
        position += generation->skip[i].size;
    }
    return position;
}
