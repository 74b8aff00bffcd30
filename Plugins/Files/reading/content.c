#define _GNU_SOURCE
#include "reading/content.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

/* Bytes of content that are kept behind the position, because a reader reads again what the client did not take. */
#define KEPT ((size_t)262144)
#define OUTPUT ((size_t)65536)
#define INPUT ((size_t)65536)
/* The largest window of zstd that is accepted, as a power of two: all levels up to 19 use at most 8 MiB. */
#define WINDOW_LOG_MAX 23
/* Estimate of the memory of zlib's and zstd's own states, in bytes. */
#define GZIP_MEMORY ((size_t)48 << 10)
#define ZSTD_MEMORY ((size_t)3 << 20)

struct decompressor {
    enum compression compression;
    z_stream gzip;
    ZSTD_DStream *zstd;
    bool open;       /* inside a member or frame; otherwise between two, or at the beginning */
    bool any;        /* at least one member or frame has begun */
    off_t consumed;  /* bytes of the file that were read into `input` */
    size_t in_at, in_size;
    off_t produced;  /* content offset of the end of `kept` */
    size_t kept_size;
    size_t memory;
    const char *problem; /* the data is corrupt behind `produced` */
    char input[INPUT];
    char kept[KEPT + OUTPUT]; /* the last bytes of the content before `produced` */
};

enum compression compression_of(const char *name) {
    size_t length = strlen(name);
    if (length > 3 && strcmp(name + length - 3, ".gz") == 0) {
        return COMPRESSION_GZIP;
    }
    return length > 4 && strcmp(name + length - 4, ".zst") == 0 ? COMPRESSION_ZSTD : COMPRESSION_NONE;
}

size_t compression_suffix(enum compression compression) {
    switch (compression) {
    case COMPRESSION_GZIP:
        return 3;
    case COMPRESSION_ZSTD:
        return 4;
    case COMPRESSION_NONE:
        break;
    }
    return 0;
}

static ssize_t read_file(int file, char *to, size_t size, off_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t count = pread(file, to + done, size - done, offset + (off_t)done);
        if (count == 0) {
            break;
        }
        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -1;
        }
        done += (size_t)count;
    }
    return (ssize_t)done;
}

static struct decompressor *start(struct content *content) {
    struct decompressor *state = malloc(sizeof *state);
    if (state == NULL) {
        return NULL;
    }
    memset(state, 0, offsetof(struct decompressor, input));
    state->compression = content->compression;
    if (content->compression == COMPRESSION_GZIP) {
        /* 16: a gzip header is required. */
        if (inflateInit2(&state->gzip, 16 + MAX_WBITS) != Z_OK) {
            free(state);
            return NULL;
        }
        state->memory = sizeof *state + GZIP_MEMORY;
    } else {
        state->zstd = ZSTD_createDStream();
        if (state->zstd == NULL) {
            free(state);
            return NULL;
        }
        ZSTD_DCtx_setParameter(state->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
        state->memory = sizeof *state + ZSTD_MEMORY;
    }
    if (content->memory != NULL) {
        atomic_fetch_add(content->memory, state->memory);
    }
    content->state = state;
    return state;
}

void content_drop(struct content *content) {
    struct decompressor *state = content->state;
    if (state == NULL) {
        return;
    }
    content->state = NULL;
    if (content->memory != NULL) {
        atomic_fetch_sub(content->memory, state->memory);
    }
    if (state->compression == COMPRESSION_GZIP) {
        inflateEnd(&state->gzip);
    } else {
        ZSTD_freeDStream(state->zstd);
    }
    free(state);
}

void content_limit(struct content *content, size_t limit) {
    if (content->state != NULL && content->memory != NULL && atomic_load(content->memory) > limit) {
        content_drop(content);
    }
}

static int corrupt(struct content *content, const char *problem) {
    content->problem = problem;
    errno = EBADMSG;
    return -1;
}

/* Corrupt data stays corrupt, and zstd must not be called again after an error. */
static int corrupt_for_ever(struct content *content, struct decompressor *state, const char *problem) {
    state->problem = problem;
    return corrupt(content, problem);
}

/* Decompresses from the input to `to`. Sets *made. Returns 0, or -1 and errno. */
static int decompress(struct content *content, struct decompressor *state, char *to, size_t *made) {
    if (state->compression == COMPRESSION_GZIP) {
        if (!state->open && inflateReset(&state->gzip) != Z_OK) {
            return corrupt_for_ever(content, state, "the decompressor failed");
        }
        state->gzip.next_in = (unsigned char *)state->input + state->in_at;
        state->gzip.avail_in = (unsigned)(state->in_size - state->in_at);
        state->gzip.next_out = (unsigned char *)to;
        state->gzip.avail_out = OUTPUT;
        int result = inflate(&state->gzip, Z_NO_FLUSH);
        state->in_at = state->in_size - state->gzip.avail_in;
        *made = OUTPUT - state->gzip.avail_out;
        if (result == Z_MEM_ERROR) {
            errno = ENOMEM;
            return -1;
        }
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
            /* zlib's messages are constants. */
            const char *problem = state->gzip.msg != NULL ? state->gzip.msg : "the gzip data is corrupt";
            return corrupt_for_ever(content, state, state->any ? problem : "it is not in the gzip format");
        }
        state->open = result != Z_STREAM_END;
    } else {
        ZSTD_inBuffer in = {state->input, state->in_size, state->in_at};
        ZSTD_outBuffer out = {to, OUTPUT, 0};
        size_t result = ZSTD_decompressStream(state->zstd, &out, &in);
        state->in_at = in.pos;
        *made = out.pos;
        if (ZSTD_isError(result)) {
            return corrupt_for_ever(content, state, ZSTD_getErrorName(result));
        }
        state->open = result != 0;
    }
    state->any = true;
    return 0;
}

/* Produces more content at the end of `kept`. Returns 1, 0 at the end, or -1 and errno. */
static int advance(struct content *content, struct decompressor *state) {
    if (state->problem != NULL) {
        return corrupt(content, state->problem);
    }
    if (state->kept_size > KEPT) {
        size_t extra = state->kept_size - KEPT;
        memmove(state->kept, state->kept + extra, KEPT);
        state->kept_size = KEPT;
    }
    for (;;) {
        size_t made = 0;
        bool had_input = state->in_at < state->in_size;
        if (had_input || state->open) {
            if (decompress(content, state, state->kept + state->kept_size, &made) != 0) {
                return -1;
            }
            state->kept_size += made;
            state->produced += (off_t)made;
            if (made > 0) {
                return 1;
            }
            if (state->in_at < state->in_size) {
                continue; /* a member without content ended here */
            }
        }
        ssize_t count = read_file(content->file, state->input, INPUT, state->consumed);
        if (count < 0) {
            return -1;
        }
        if (count == 0) {
            if (state->open) {
                content->incomplete = true;
                return corrupt(content, "the compressed data ends too early");
            }
            return 0;
        }
        state->consumed += count;
        state->in_at = 0;
        state->in_size = (size_t)count;
    }
}

static ssize_t read_compressed(struct content *content, char *to, size_t size, off_t offset) {
    struct decompressor *state = content->state;
    if (state != NULL && offset < state->produced - (off_t)state->kept_size) {
        content_drop(content);
        state = NULL;
    }
    if (state == NULL) {
        state = start(content);
        if (state == NULL) {
            errno = ENOMEM;
            return -1;
        }
    }
    content->incomplete = content->failed = false;
    size_t done = 0;
    while (done < size) {
        off_t at = offset + (off_t)done;
        if (at < state->produced) {
            size_t left = (size_t)(state->produced - at);
            size_t count = left < size - done ? left : size - done;
            memcpy(to + done, state->kept + state->kept_size - left, count);
            done += count;
            continue;
        }
        int more = advance(content, state);
        if (more == 0) {
            break;
        }
        if (more < 0) {
            int code = errno;
            /* What was decompressed before the error is valid. */
            if (done > 0 && code == EBADMSG) {
                content->failed = true;
                break;
            }
            errno = code;
            return -1;
        }
    }
    return (ssize_t)done;
}

off_t content_length(const struct content *content) {
    return content->state == NULL ? 0 : content->state->produced;
}

ssize_t content_read(struct content *content, char *to, size_t size, off_t offset) {
    return content->compression == COMPRESSION_NONE ? read_file(content->file, to, size, offset)
                                                    : read_compressed(content, to, size, offset);
}
