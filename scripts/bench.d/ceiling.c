/* The upper bound: two plain processes on one TCP connection. Frames have a header with their source and length. They
 * are sent in large writes, parsed in the read buffer, and counted. There is no flow control, no dialling, no other
 * thread and no buffer that outlives its frame. The difference to a multiplexer is the multiplexer's cost.
 *
 *     ceiling connect|flood|heavy [--seconds S] [--callers N] [--sources N] [--frames N] [--size N]
 *
 * Prints one JSON object with the same keys as the other peers. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    batch_bytes = 1 << 20,      /* maximum size of a batch */
    packed_bytes = 32 << 10,    /* maximum payload that is copied into the batch; larger ones are sent in place */
    deadline_seconds = 120,
};

/* Precedes each payload, in the byte order of the machine (both ends run on it). A request is a header without payload;
 * its `length` is the requested number of frames. */
struct header {
    uint32_t source;
    uint32_t kind;
    uint64_t length;
};
enum { request = 1, frame, end };

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("error: ceiling: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void check(bool success, const char *operation) {
    if (!success) fail("%s: %s", operation, strerror(errno));
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* ---- writing ---- */

struct writer {
    int socket;
    size_t filled;
    char batch[batch_bytes];
};

static void write_all(int socket, struct iovec *parts, int count) {
    while (count > 0) {
        ssize_t written = writev(socket, parts, count);
        if (written < 0 && errno == EINTR) continue;
        check(written >= 0, "write");
        while (count > 0 && (size_t)written >= parts->iov_len) {
            written -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + written;
            parts->iov_len -= written;
        }
    }
}

static void flush(struct writer *writer) {
    struct iovec part = {writer->batch, writer->filled};
    write_all(writer->socket, &part, 1);
    writer->filled = 0;
}

static void put(struct writer *writer, struct header header, const char *payload) {
    size_t size = header.kind == frame ? header.length : 0;
    size_t packed = sizeof header + (size <= packed_bytes ? size : 0);
    if (writer->filled + packed > batch_bytes) flush(writer);
    memcpy(writer->batch + writer->filled, &header, sizeof header);
    if (size > 0 && size <= packed_bytes) memcpy(writer->batch + writer->filled + sizeof header, payload, size);
    writer->filled += packed;
    if (size > packed_bytes) {
        struct iovec parts[2] = {{writer->batch, writer->filled}, {(char *)payload, size}};
        write_all(writer->socket, parts, 2);
        writer->filled = 0;
    }
}

/* ---- reading ---- */

struct reader {
    int socket;
    size_t begin, filled;
    size_t size, ahead;
    char *buffer;
};

/* Returns the next `size` bytes, contiguous and valid until the next call; NULL at the end of the connection. */
static const char *take(struct reader *reader, size_t size) {
    if (size > reader->size) fail("%zu bytes exceed the buffer", size);
    while (reader->filled - reader->begin < size) {
        if (reader->begin > 0) {
            memmove(reader->buffer, reader->buffer + reader->begin, reader->filled - reader->begin);
            reader->filled -= reader->begin;
            reader->begin = 0;
        }
        /* Reads no more than a large frame, and not much after a header, so that few bytes have to be moved. */
        size_t room = (size > reader->ahead ? size : reader->ahead) - reader->filled;
        ssize_t come = read(reader->socket, reader->buffer + reader->filled, room);
        if (come < 0 && errno == EINTR) continue;
        check(come >= 0, "read");
        if (come == 0) return NULL;
        reader->filled += come;
    }
    const char *taken = reader->buffer + reader->begin;
    reader->begin += size;
    return taken;
}

static bool take_header(struct reader *reader, struct header *header) {
    const char *taken = take(reader, sizeof *header);
    if (taken != NULL) memcpy(header, taken, sizeof *header);
    return taken != NULL;
}

static struct reader make_reader(int socket, size_t frame_size) {
    /* The buffer holds one large frame in one piece, or as many small ones as fit in the processor cache. */
    bool large = frame_size > packed_bytes;
    size_t ahead = large ? packed_bytes : 256 << 10, size = large ? frame_size : ahead;
    struct reader reader = {.socket = socket, .size = size, .ahead = ahead, .buffer = malloc(size)};
    check(reader.buffer != NULL, "malloc");
    return reader;
}

/* ---- the load ---- */

struct load {
    const char *workload;
    uint64_t sources, frames, size, callers;
    double seconds;
};

/* Answers requests: reads all that have arrived and sends one frame of each in turn. */
static void serve(int socket, struct load load) {
    struct writer *writer = calloc(1, sizeof *writer);
    char *payload = calloc(1, load.size + 1);
    struct reader reader = make_reader(socket, 0);
    check(writer != NULL && payload != NULL, "malloc");
    writer->socket = socket;
    struct header *waiting = calloc(load.sources, sizeof *waiting);
    check(waiting != NULL, "malloc");
    struct header asked;
    while (take_header(&reader, &asked)) {
        size_t count = 0;
        do {
            if (count == load.sources) fail("more requests than sources");
            waiting[count++] = asked;
        } while (reader.filled > reader.begin && take_header(&reader, &asked));
        while (count > 0) {
            for (size_t i = 0; i < count;) {
                if (waiting[i].length > 0) {
                    put(writer, (struct header){waiting[i].source, frame, load.size}, payload);
                    waiting[i++].length--;
                } else {
                    put(writer, (struct header){waiting[i].source, end, 0}, NULL);
                    waiting[i] = waiting[--count];
                }
            }
        }
        flush(writer);
    }
}

struct source {
    uint64_t frames, bytes;
    double asked;
};

/* Represents the application. Must not be optimised away. */
__attribute__((noinline)) static void consume(struct source *source, const char *payload, uint64_t size) {
    __asm__ volatile("" : : "r"(payload) : "memory");
    source->frames++;
    source->bytes += size;
}

/* Reads until a source ends, and returns it. */
static struct source *next_end(struct reader *reader, struct source *sources, struct load load) {
    struct header header;
    while (take_header(reader, &header)) {
        if (header.source >= load.sources) fail("unknown source %" PRIu32, header.source);
        struct source *source = &sources[header.source];
        if (header.kind == end) {
            if (source->frames != load.frames || source->bytes != load.frames * load.size)
                fail("received %" PRIu64 " of %" PRIu64 " frames, or wrong sizes", source->frames, load.frames);
            return source;
        }
        const char *payload = take(reader, header.length);
        if (payload == NULL) break;
        consume(source, payload, header.length);
    }
    fail("the server closed the connection");
    return NULL;
}

static double stream(int socket, struct load load) {
    struct reader reader = make_reader(socket, load.size);
    struct writer *writer = calloc(1, sizeof *writer);
    struct source *sources = calloc(load.sources, sizeof *sources);
    check(writer != NULL && sources != NULL, "malloc");
    writer->socket = socket;
    double began = now();
    for (uint32_t i = 0; i < load.sources; i++) put(writer, (struct header){i, request, load.frames}, NULL);
    flush(writer);
    for (uint64_t i = 0; i < load.sources; i++) next_end(&reader, sources, load);
    return now() - began;
}

struct latencies {
    size_t count, room;
    float *took; /* microseconds */
};

static int ascending(const void *left, const void *right) {
    float l = *(const float *)left, r = *(const float *)right;
    return (l > r) - (l < r);
}

static double at(const struct latencies *latencies, double quantile) {
    size_t rank = (size_t)(quantile * latencies->count);
    return latencies->took[rank < latencies->count ? rank : latencies->count - 1];
}

/* Each caller sends its next request as soon as its answer has ended. All callers share one thread. */
static double run_callers(int socket, struct load load, struct latencies *latencies) {
    struct reader reader = make_reader(socket, 0);
    struct source *callers = calloc(load.callers, sizeof *callers);
    check(callers != NULL, "malloc");
    double began = now(), stop = began + load.seconds, last = began;
    uint64_t asking = load.callers;
    for (uint32_t i = 0; i < load.callers; i++) {
        struct header ask = {i, request, 1};
        callers[i].asked = now();
        write_all(socket, &(struct iovec){&ask, sizeof ask}, 1);
    }
    while (asking > 0) {
        struct source *caller = next_end(&reader, callers, load);
        last = now();
        if (latencies->count == latencies->room) {
            latencies->room = latencies->room * 2 + 4096;
            latencies->took = realloc(latencies->took, latencies->room * sizeof *latencies->took);
            check(latencies->took != NULL, "malloc");
        }
        latencies->took[latencies->count++] = (last - caller->asked) * 1e6;
        if (last >= stop) {
            asking--;
            continue;
        }
        *caller = (struct source){.asked = last};
        struct header ask = {caller - callers, request, 1};
        write_all(socket, &(struct iovec){&ask, sizeof ask}, 1);
    }
    qsort(latencies->took, latencies->count, sizeof *latencies->took, ascending);
    return last - began;
}

/* ---- processes ---- */

/* Returns the peak memory of a process in MiB. */
static double peak_memory(pid_t process) {
    char path[64], line[256];
    uint64_t kilobytes = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)process);
    FILE *status = fopen(path, "r");
    check(status != NULL, path);
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmHWM: %" SCNu64, &kilobytes) != 1) continue;
    fclose(status);
    return kilobytes / 1024.0;
}

/* Returns the processor time of a process in seconds. */
static double processor_time(pid_t process) {
    clockid_t clock;
    struct timespec t;
    check(clock_getcpuclockid(process, &clock) == 0 && clock_gettime(clock, &t) == 0, "processor time");
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int no_delay(int socket) {
    check(setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0, "TCP_NODELAY");
    return socket;
}

/* Starts the server and connects to it. The server exits when the connection closes or the client exits. */
static int start_server(struct load load, pid_t *server) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    check(listener >= 0, "socket");
    check(bind(listener, (struct sockaddr *)&address, size) == 0, "bind");
    check(listen(listener, 1) == 0, "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
    *server = fork();
    check(*server >= 0, "fork");
    if (*server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(deadline_seconds);
        int accepted = accept(listener, NULL, NULL);
        check(accepted >= 0, "accept");
        serve(no_delay(accepted), load);
        exit(0);
    }
    close(listener);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    check(connection >= 0, "socket");
    check(connect(connection, (struct sockaddr *)&address, size) == 0, "connect");
    return no_delay(connection);
}

static struct load parse(int count, char **arguments) {
    if (count < 2) fail("usage: ceiling connect|flood|heavy [options]");
    struct load load = {arguments[1], 1000, 5000, 64, 4, 5};
    if (strcmp(load.workload, "heavy") == 0) load.sources = 10, load.frames = 500, load.size = 1 << 20;
    for (int i = 2; i < count; i += 2) {
        double value = i + 1 < count ? strtod(arguments[i + 1], NULL) : 0;
        if (value <= 0) fail("%s needs a number above 0", arguments[i]);
        if (strcmp(arguments[i], "--seconds") == 0) load.seconds = value;
        else if (strcmp(arguments[i], "--callers") == 0) load.callers = value;
        else if (strcmp(arguments[i], "--sources") == 0) load.sources = value;
        else if (strcmp(arguments[i], "--frames") == 0) load.frames = value;
        else if (strcmp(arguments[i], "--size") == 0) load.size = value;
        else fail("unknown option: %s", arguments[i]);
    }
    if (strcmp(load.workload, "connect") == 0) load.sources = load.callers, load.frames = 1, load.size = 0;
    else if (strcmp(load.workload, "flood") != 0 && strcmp(load.workload, "heavy") != 0)
        fail("unknown workload: %s", load.workload);
    return load;
}

static void print_figure(const char *name, double value, const char *unit) {
    static const char *separator = "";
    printf("%s\"%s\":{\"unit\":\"%s\",\"values\":[%.9g]}", separator, name, unit, value);
    separator = ",";
}

int main(int count, char **arguments) {
    struct load load = parse(count, arguments);
    struct latencies latencies = {0};
    pid_t client = getpid(), server;
    alarm(deadline_seconds);
    int connection = start_server(load, &server);
    double client_before = processor_time(client), server_before = processor_time(server);
    bool connects = strcmp(load.workload, "connect") == 0;
    double seconds = connects ? run_callers(connection, load, &latencies) : stream(connection, load);
    double client_processor = processor_time(client) - client_before;
    double server_processor = processor_time(server) - server_before;
    double client_peak = peak_memory(client), server_peak = peak_memory(server);
    close(connection);
    int status;
    check(waitpid(server, &status, 0) == server, "wait");
    if (status != 0) fail("the server failed");

    printf("{\"peer\":\"c\",\"workload\":\"%s\",\"dropped\":0,\"figures\":{", load.workload);
    if (connects) {
        print_figure("requests", latencies.count / seconds, "1/s");
        print_figure("latency_p50", at(&latencies, 0.5), "us");
        print_figure("latency_p99", at(&latencies, 0.99), "us");
        print_figure("latency_p99.9", at(&latencies, 0.999), "us");
        print_figure("latency_max", at(&latencies, 1), "us");
    } else {
        double frames = load.sources * load.frames / seconds;
        print_figure("frames", frames, "1/s");
        print_figure("payload", frames * load.size / 1e9, "GB/s");
    }
    print_figure("seconds", seconds, "s");
    print_figure("client_processor", client_processor, "s");
    print_figure("client_peak_memory", client_peak, "MiB");
    print_figure("host_processor", server_processor, "s");
    print_figure("host_peak_memory", server_peak, "MiB");
    printf("}}\n");
    return 0;
}
