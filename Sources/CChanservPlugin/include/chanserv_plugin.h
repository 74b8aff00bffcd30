/*
 * chanserv_plugin.h: the whole contract between the chanserv host and a plugin, ABI version 1.1.
 *
 * A plugin is a shared library that exports one function, CHANSERV_ENTRY, which returns a pointer to a constant
 * descriptor (struct chanserv_plugin). Everything else is reached through tables of function pointers. Plain C11,
 * usable from C++ and from every language with a C foreign function interface; it depends on nothing.
 *
 *
 * Life cycle
 * ----------
 *
 *     dlopen ── chanserv_plugin_v1() ── create ─┬─ open ─┬─ poll_sources … END or error ──────┐
 *                                               │        │    └ adds source ─ poll_frames …   │
 *                                               │        │                    close_source ───┤
 *                                               │        └─ close_call (after its last source)┘
 *                                               └─ … any number of calls at the same time …
 *                                               destroy (after the last close_call)
 *
 * - One library may have several instances at once: one for each entry of the configuration that names it, and
 *   during a reload the next generation beside the last.
 * - The host pulls: it polls a call for sources and a source for frames, and the plugin answers at once with what it
 *   has. A host that does not poll is backpressure: the reader at the other end is slow. Do not buffer without bound.
 * - The library is never unloaded with dlclose. Its file is copied before it is loaded, so replacing, truncating or
 *   removing the file on disk does not touch running code.
 *
 *
 * Threads
 * -------
 *
 * - The host calls the functions of the descriptor from threads that it keeps for plugins, and never from an event
 *   loop. CHANSERV_PLUGIN_INLINE is the only exception. Different calls and sources are polled at the same time from different threads; all calls on *one* call or *one*
 *   source are serialised (with the memory ordering that implies), but may move between threads from one to the next.
 *   The exceptions are cancel_call and cancel_source: they may overlap anything but the close of the same object.
 * - CHANSERV_PLUGIN_SERIAL: no two functions of an instance of this library ever overlap (cancel included). The
 *   release functions of lent frames are not functions of the descriptor and may overlap any of them.
 * - CHANSERV_PLUGIN_BLOCKING: polls may block (a database driver, say); the library gets threads of its own.
 *   Without this flag a function should return within a millisecond or so; what needs longer answers PENDING and
 *   calls wake from a thread of its own.
 * - CHANSERV_PLUGIN_INLINE: open, poll_sources, poll_frames, close_source and close_call return within microseconds.
 *   The host may call them on a network event loop, where nothing else happens until they return. It need not: it may
 *   call them on its other threads at any time, so the rules above hold as well. They must not block, wait for a lock
 *   that another thread holds for long, read files, or compute for long; a large answer is given over many polls. The
 *   host never calls create, destroy, cancel_call and cancel_source on an event loop. With CHANSERV_PLUGIN_SERIAL the
 *   flag is allowed; with CHANSERV_PLUGIN_BLOCKING it is a contradiction, and the host refuses to load the plugin.
 *
 *
 * What a plugin must not do
 * -------------------------
 *
 * install signal handlers or change signal masks of host threads; fork without exec; register atexit handlers; call
 * chdir, setlocale, umask, setenv or exit; write to standard output or standard error (use host->log); let a C++
 * exception or any other unwinding cross this boundary; keep pointers longer than their owner says below.
 *
 *
 * Versions
 * --------
 *
 * The name of the entry carries the major version. Both tables begin with the same head; each side reads only the
 * smaller of the two struct_size values, and fields are only ever appended. A descriptor with a wrong magic, another
 * major version or a struct_size smaller than version 1.0 is refused with a message that says which and why.
 *
 * A field "since 1.1" is there only if the struct_size of the struct says so; a host of version 1.0 does not have it.
 * CHANSERV_HAS tests for it:
 *
 *     if (CHANSERV_HAS(sink, chanserv_frame_sink, lend)) { ... sink->lend(...) ... } else { ... sink->append(...) ... }
 *
 * The flags of the descriptor are different: a host refuses a descriptor with a flag that it does not know, and the
 * entry cannot ask which host calls it. A plugin with CHANSERV_PLUGIN_INLINE therefore does not load in a 1.0 host.
 * A plugin that must load there sets the flag in one build only: write `.flags = MY_FLAGS` and build the library twice,
 * once with -DMY_FLAGS=CHANSERV_PLUGIN_INLINE and once with -DMY_FLAGS=0. Everything else of version 1.1 works in one
 * library for both hosts. A plugin that was built with the header of version 1.0 runs unchanged in a 1.1 host.
 */
#ifndef CHANSERV_PLUGIN_H
#define CHANSERV_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define CHANSERV_EXPORT __declspec(dllexport)
#else
#define CHANSERV_EXPORT __attribute__((visibility("default")))
#endif

#define CHANSERV_ABI_MAJOR 1
#define CHANSERV_ABI_MINOR 1

/* First field of struct chanserv_plugin: the bytes "CHSP" in memory on a little-endian machine. */
#define CHANSERV_PLUGIN_MAGIC UINT32_C(0x50534843)
/* First field of struct chanserv_host: the bytes "CHSH" in memory on a little-endian machine. */
#define CHANSERV_HOST_MAGIC UINT32_C(0x48534843)

/* The exported function's name, as an identifier and as the string to look up. */
#define CHANSERV_ENTRY chanserv_plugin_v1
#define CHANSERV_ENTRY_NAME "chanserv_plugin_v1"

/*
 * Whether the struct at `pointer`, a `struct type` of the host's, has the field `field`: false for a field that was
 * appended in a later version than the host's.
 */
#define CHANSERV_HAS(pointer, type, field) \
    ((pointer)->struct_size >= offsetof(struct type, field) + sizeof((pointer)->field))

/* The largest frame, header or request: 100 MiB (the wire's limit). */
#define CHANSERV_FRAME_SIZE_MAX ((size_t)104857600)

/* ---------------------------------------------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------------------------------------------- */

/*
 * What every function that can fail returns: zero or above is an answer, below zero an error. The host treats an
 * error code it does not know as CHANSERV_ERROR_INTERNAL, and an answer that is not one of those documented at the
 * function likewise.
 */
typedef int32_t chanserv_status;

enum {
    /* Done, or: there may be more, ask again when there is room. */
    CHANSERV_READY = 0,
    /* Nothing now. The plugin calls host->wake with the sink's handle at least once when asking again makes sense. */
    CHANSERV_PENDING = 1,
    /* Complete and well: no more sources of this call, no more frames of this source. */
    CHANSERV_END = 2,
    /* From a sink: not taken, the batch is full. Return CHANSERV_READY and offer the same thing at the next poll. */
    CHANSERV_FULL = 3,

    /* The request (or the configuration, in create) is wrong; trying it again will not help. */
    CHANSERV_ERROR_BAD_REQUEST = -1,
    /* What was asked for does not exist; from a configuration getter: the key is absent. */
    CHANSERV_ERROR_NOT_FOUND = -2,
    /* Not now, perhaps later or elsewhere. */
    CHANSERV_ERROR_BUSY = -3,
    /* Anything else. */
    CHANSERV_ERROR_INTERNAL = -4,
    /* From a sink: larger than CHANSERV_FRAME_SIZE_MAX, not taken. */
    CHANSERV_ERROR_TOO_LARGE = -5
};

/*
 * Where a failing function puts its message. The buffer is the host's and lives until the function returns; write at
 * most `capacity` bytes including a terminating zero (snprintf does just that) of UTF-8. The message is logged and
 * sent to the client, so it should help both and tell no secrets. Empty when the function is called.
 */
typedef struct chanserv_error {
    char *message;
    size_t capacity;
} chanserv_error;

/* ---------------------------------------------------------------------------------------------------------------
 * The host's table
 * ------------------------------------------------------------------------------------------------------------- */

/* The plugin's own types: the host only passes the pointers back. Define the structs as you like. */
typedef struct chanserv_instance chanserv_instance;
typedef struct chanserv_call chanserv_call;
typedef struct chanserv_source chanserv_source;

/* The configuration of one instance, an opaque tree. Valid until create returns. */
typedef struct chanserv_config chanserv_config;

/* Log levels for host->log. */
enum {
    CHANSERV_LOG_DEBUG = 0,
    CHANSERV_LOG_INFO = 1,
    CHANSERV_LOG_WARNING = 2,
    CHANSERV_LOG_ERROR = 3
};

/*
 * What the host offers, one table for each instance. It lives from create until destroy has returned, except `wake`
 * and `log`: their function pointers may be copied out and called (with the table's address, which stays readable)
 * at any time until the process ends. All functions may be called from any thread and never block.
 */
typedef struct chanserv_host {
    uint32_t magic;       /* CHANSERV_HOST_MAGIC */
    uint16_t abi_major;   /* CHANSERV_ABI_MAJOR */
    uint16_t abi_minor;   /* the host's, may be newer or older than the plugin's */
    uint32_t struct_size; /* sizeof(struct chanserv_host) as the host knows it */
    uint32_t reserved;

    /*
     * Says that polling again makes sense after a PENDING. `handle` is the sink's `wake` of that poll (it is the
     * same for all polls of one object). Calling it too often, during a poll, or after the object is closed is
     * harmless: handles are never reused. A wake that comes during a poll is not lost.
     */
    void (*wake)(const struct chanserv_host *host, uint64_t handle);

    /* Logs `size` bytes of UTF-8 at `level` (unknown levels count as CHANSERV_LOG_INFO) under the plugin's name. */
    void (*log)(const struct chanserv_host *host, int32_t level, const char *message, size_t size);

    /*
     * The configuration (what stands under `config:` in the YAML, a route's merged over its plugin's).
     *
     * `path` names a value: keys separated by dots, elements of lists by their index, e.g. "limits.0.size".
     * Each getter returns CHANSERV_READY and sets *value; CHANSERV_ERROR_NOT_FOUND and leaves *value alone when the
     * key is absent (so initialise *value with the default and treat this as success); or
     * CHANSERV_ERROR_BAD_REQUEST with a message that has file, line and column when the value is not of that type.
     * Strings and JSON are the host's, end in a zero byte that `size` does not count, and live until create returns.
     */
    chanserv_status (*config_json)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char **value, size_t *size);
    chanserv_status (*config_string)(const struct chanserv_host *host, const chanserv_config *config,
                                     const char *path, const char **value, size_t *size, chanserv_error *error);
    chanserv_status (*config_integer)(const struct chanserv_host *host, const chanserv_config *config,
                                      const char *path, int64_t *value, chanserv_error *error);
    chanserv_status (*config_number)(const struct chanserv_host *host, const chanserv_config *config,
                                     const char *path, double *value, chanserv_error *error);
    /* *value becomes 0 or 1. */
    chanserv_status (*config_boolean)(const struct chanserv_host *host, const chanserv_config *config,
                                      const char *path, int32_t *value, chanserv_error *error);
    /* A duration like `250ms`, `30s`, `5m`, `1h`; nanoseconds. */
    chanserv_status (*config_duration)(const struct chanserv_host *host, const chanserv_config *config,
                                       const char *path, int64_t *nanoseconds, chanserv_error *error);
    /* A size like `512`, `64KiB`, `100MiB`, `1GiB`; bytes. */
    chanserv_status (*config_size)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, uint64_t *bytes, chanserv_error *error);
    /* How many elements a list has. */
    chanserv_status (*config_count)(const struct chanserv_host *host, const chanserv_config *config,
                                    const char *path, size_t *count, chanserv_error *error);
    /*
     * Looks for keys the plugin does not know: `known` is an array of `count` top-level keys. CHANSERV_READY when
     * there is no other, else CHANSERV_ERROR_BAD_REQUEST with a message that names the place and the nearest known
     * key. Calling it makes a misspelt option an error at start instead of a silent default.
     */
    chanserv_status (*config_only)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *const *known, size_t count, chanserv_error *error);
    /*
     * A path of the file system: as config_string, but where it is not absolute it is made so against the folder of
     * the configuration file, as all paths in that file are. A plugin cannot do this itself: it knows neither that
     * folder nor may it rely on the working directory.
     */
    chanserv_status (*config_path)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, const char **value, size_t *size, chanserv_error *error);

    /* Since 1.1. The host's own; a plugin neither reads nor writes it. */
    void *context;
    /*
     * Since 1.1. The keys of a map, in the order in which the configuration file has them; the empty `path` is the
     * whole configuration. Sets *keys to an array of *count zero-terminated strings. Array and strings are the host's
     * and live until create returns. A key that contains a dot cannot be part of a `path`.
     */
    chanserv_status (*config_keys)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, const char *const **keys, size_t *count,
                                   chanserv_error *error);
} chanserv_host;

/* ---------------------------------------------------------------------------------------------------------------
 * Requests and sinks
 * ------------------------------------------------------------------------------------------------------------- */

/* One request. The struct and all it points to are the host's and live until open returns: copy what you keep. */
typedef struct chanserv_request {
    uint32_t struct_size;
    uint32_t reserved;
    const void *body; /* what the client posted; never NULL, even when body_size is 0 */
    size_t body_size; /* at most CHANSERV_FRAME_SIZE_MAX */
    const char *vaddr;          /* the route's virtual address, zero-terminated */
    const char *remote_address; /* the client's, in AstraNet notation, zero-terminated */

    /*
     * Since 1.1: what the client and the connection say about the request. Strings are zero-terminated. Everything but
     * peer_address comes from the client and is not verified.
     */
    int64_t deadline;         /* nanoseconds until the client gives up, from the call of open on; -1: no deadline */
    const char *meta;         /* the tag "meta", free text about the request; NULL: not set */
    const char *bucket;       /* the tag "bucket", by which the client chose among several hosts; NULL: not set */
    const char *traceparent;  /* W3C Trace Context; NULL: not set */
    const char *peer_address; /* `ip:port` of the client, or of the router the request came through; may be "" */
    const char *identity;     /* the verified identity of the client; always "" in this version */
    uint32_t flags;           /* 0 in this version; ignore bits you do not know */
    uint32_t reserved_1;
} chanserv_request;

/* Takes the sources of one poll_sources. The host's; lives until that poll returns. */
typedef struct chanserv_source_sink {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t wake; /* for host->wake when this poll returns CHANSERV_PENDING; the same at every poll of this call */
    /*
     * Adds a source. `header` is copied. CHANSERV_READY: taken; from now on the host polls `source` (perhaps at
     * once, from another thread, so it must be ready) and calls close_source exactly once. CHANSERV_FULL: not taken,
     * `source` stays the plugin's. CHANSERV_ERROR_TOO_LARGE: not taken, the header is too large.
     * An empty sink takes at least one source.
     */
    chanserv_status (*add)(struct chanserv_source_sink *sink, const void *header, size_t header_size,
                           chanserv_source *source);

    /* Since 1.1. The host's own; a plugin neither reads nor writes it. */
    void *context;
} chanserv_source_sink;

/* Takes the frames of one poll_frames. The host's; lives until that poll returns. */
typedef struct chanserv_frame_sink {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t wake; /* for host->wake when this poll returns CHANSERV_PENDING; the same at every poll of this source */
    /*
     * Adds a frame of `size` bytes, copied straight into the outgoing buffer. CHANSERV_READY: taken. CHANSERV_FULL:
     * not taken, because there are other frames in the batch already and no room beside them. An empty sink takes any
     * frame up to CHANSERV_FRAME_SIZE_MAX, so a large frame is delayed by a poll, never truncated or refused.
     * CHANSERV_ERROR_TOO_LARGE: not taken, larger than that.
     */
    chanserv_status (*append)(struct chanserv_frame_sink *sink, const void *data, size_t size);
    /*
     * For a frame whose length is not known beforehand: room of at least `minimum` bytes inside the outgoing buffer,
     * to fill and then `commit`. Sets *capacity (>= minimum) and returns the start of the frame. Called again before
     * commit it enlarges the room and keeps what was written (the address may change). NULL: no room in this batch
     * (return CHANSERV_READY; an empty sink has room), or `minimum` is larger than CHANSERV_FRAME_SIZE_MAX.
     * A reservation that is not committed when the poll returns is dropped.
     */
    void *(*reserve)(struct chanserv_frame_sink *sink, size_t minimum, size_t *capacity);
    /* Makes the first `size` bytes of the reservation a frame. `size` must not exceed the capacity. */
    chanserv_status (*commit)(struct chanserv_frame_sink *sink, size_t size);

    /* Since 1.1. The host's own; a plugin neither reads nor writes it. */
    void *context;
    /*
     * Since 1.1. Adds a frame as `append` does, but the host sends it from the plugin's memory instead of copying it.
     *
     * CHANSERV_READY: taken. The `size` bytes at `data` must stay where they are and must not change until the host has
     * called `release(context)`. It calls it exactly once: perhaps before `lend` returns, perhaps long after
     * close_source and close_call of the source, but always before destroy of the instance. Any thread may call it, at
     * the same time as any other function of the plugin (also with CHANSERV_PLUGIN_SERIAL) and as other releases.
     * `release` must return as quickly as a poll, and must not call the sink. It may call host->wake.
     * CHANSERV_FULL, CHANSERV_ERROR_TOO_LARGE: as `append`. CHANSERV_ERROR_BAD_REQUEST: `data` or `release` is NULL.
     * After any answer but CHANSERV_READY nothing was lent: `release` is not called, and the memory is the plugin's.
     *
     * The same memory may be lent any number of times, each with a release of its own. The host copies the frame and
     * releases it at once if that is cheaper or necessary: below 8 KiB, if it compresses the source, if the frame
     * begins with "lz4!", and if the instance has lent 64 MiB already. A plugin must not wait for a release inside one of
     * its functions: return CHANSERV_PENDING, and call wake in `release`.
     *
     * Never lend a file mapping (mmap of a file): if another process truncates the file, reading the mapping raises
     * SIGBUS, which ends the host. Read the file into memory and lend that.
     */
    chanserv_status (*lend)(struct chanserv_frame_sink *sink, const void *data, size_t size,
                            void (*release)(void *context), void *context);
} chanserv_frame_sink;

/* ---------------------------------------------------------------------------------------------------------------
 * The plugin's table
 * ------------------------------------------------------------------------------------------------------------- */

/* Descriptor flags; the host refuses a descriptor with flags it does not know. */
enum {
    CHANSERV_PLUGIN_SERIAL = 1 << 0,   /* calls into one instance must never overlap */
    CHANSERV_PLUGIN_BLOCKING = 1 << 1, /* functions may block; use threads of their own */
    /*
     * Since 1.1. My open, poll and close functions return within microseconds: the host may call them on a network
     * event loop. Not together with CHANSERV_PLUGIN_BLOCKING. A 1.0 host refuses it; see "Versions" above.
     */
    CHANSERV_PLUGIN_INLINE = 1 << 2
};

/* What CHANSERV_ENTRY returns: constant, and valid for as long as the process lives. No function may be NULL. */
typedef struct chanserv_plugin {
    uint32_t magic;       /* CHANSERV_PLUGIN_MAGIC */
    uint16_t abi_major;   /* CHANSERV_ABI_MAJOR */
    uint16_t abi_minor;   /* CHANSERV_ABI_MINOR */
    uint32_t struct_size; /* sizeof(struct chanserv_plugin) */
    uint32_t flags;       /* CHANSERV_PLUGIN_… */
    const char *name;     /* short, for logs; zero-terminated UTF-8 */
    const char *version;  /* of the plugin, free form; zero-terminated UTF-8 */

    /*
     * Makes an instance. `config` is valid until the function returns, `host` until destroy has. CHANSERV_READY and
     * *instance, or an error and a message: then the configuration is refused, and at a reload everything goes on as
     * it was. May block, but a start or a reload waits for it. Check the whole configuration here.
     */
    chanserv_status (*create)(const chanserv_host *host, const chanserv_config *config,
                              chanserv_instance **instance, chanserv_error *error);
    /*
     * Frees an instance, exactly once, after the last close_call and the last release of what it lent. May block while
     * it joins its threads.
     */
    void (*destroy)(chanserv_instance *instance);

    /*
     * Begins to serve a request. CHANSERV_READY and *call, or an error and a message for the client (then no other
     * function is called for it). Calls of one instance may be opened at the same time.
     */
    chanserv_status (*open)(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                            chanserv_error *error);
    /*
     * Asks for sources. Add as many as there are and the sink takes, then return CHANSERV_READY (there may be more),
     * CHANSERV_PENDING, CHANSERV_END, or an error, with which the request fails at the client (sources already
     * added go on). Not called again after END or an error.
     */
    chanserv_status (*poll_sources)(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error);
    /*
     * The client is gone or the host is draining: make a poll that runs return soon, and wake one that answered
     * PENDING. It only requests; it may come more than once, from any thread, and overlap a poll. Must not block.
     * What polls answer afterwards does not matter (an error says it best); the host may also close without another.
     */
    void (*cancel_call)(chanserv_call *call);
    /* Frees a call, exactly once, after close_source of each of its sources and never overlapping a poll. */
    void (*close_call)(chanserv_call *call);

    /*
     * Asks for frames of a source. As poll_sources; frames already in the sink are sent whatever is returned. An
     * error ends this source with the message at the client.
     */
    chanserv_status (*poll_frames)(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
    /* As cancel_call, for a source. */
    void (*cancel_source)(chanserv_source *source);
    /* Frees a source, exactly once and always, never overlapping a poll of it. */
    void (*close_source)(chanserv_source *source);
} chanserv_plugin;

/* The one exported function. Called once for each loaded copy, from any thread. NULL refuses to load. */
CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void);

#ifdef __cplusplus
}
#endif

#endif /* CHANSERV_PLUGIN_H */
