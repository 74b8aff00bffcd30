/*
 * chanserv_plugin.h: the complete interface between the chanserv host and a plugin, ABI version 1.1.
 *
 * A plugin is a shared library that exports one function, CHANSERV_ENTRY. The function returns a pointer to a constant
 * descriptor (struct chanserv_plugin). All other functions are reached through tables of function pointers. The header
 * is plain C11 without dependencies. It is usable from C++ and from every language with a C foreign function interface.
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
 * - A library may have several instances at the same time: one for each configuration entry that names it, and during a
 *   reload those of two generations.
 * - The host pulls. It polls a call for sources and a source for frames, and the plugin returns at once with what it
 *   has. A host that does not poll applies backpressure, because the client reads slowly. Do not buffer without a
 *   limit.
 * - The host never unloads the library with dlclose. It copies the file before loading it, so replacing, truncating or
 *   removing the file on disk does not affect running code.
 *
 *
 * Threads
 * -------
 *
 * - The host calls the functions of the descriptor on its plugin threads, and never on an event loop.
 *   CHANSERV_PLUGIN_INLINE is the only exception. Different calls and sources are polled by different threads at the
 *   same time. All function calls for *one* call or *one* source are serialised, with the memory ordering that this
 *   implies, but consecutive ones may run on different threads. The exceptions are cancel_call and cancel_source: they
 *   may overlap every other function except the close of the same object.
 * - CHANSERV_PLUGIN_SERIAL: no two functions of one instance ever overlap, the cancel functions included. The release
 *   functions of lent frames are not functions of the descriptor and may overlap any of them.
 * - CHANSERV_PLUGIN_BLOCKING: polls may block, for example in a database driver. The library then has plugin threads of
 *   its own. Without this flag a function should return within about a millisecond. Work that takes longer returns
 *   PENDING and calls wake from a thread of the plugin.
 * - CHANSERV_PLUGIN_INLINE: open, poll_sources, poll_frames, close_source and close_call return within microseconds.
 *   The host may call them on a network event loop, which does nothing else until they return. It may also call them on
 *   its other threads at any time, so the rules above apply as well. The functions must not block, wait for a lock that
 *   another thread holds for long, read files, or compute for long. A large answer must be split over many polls. The
 *   host never calls create, destroy, cancel_call and cancel_source on an event loop. The flag may be combined with
 *   CHANSERV_PLUGIN_SERIAL. It contradicts CHANSERV_PLUGIN_BLOCKING: the host refuses to load a plugin with both.
 *
 *
 * What a plugin must not do
 * -------------------------
 *
 * A plugin must not install signal handlers or change the signal masks of host threads. It must not fork without exec,
 * and must not register atexit handlers. It must not call chdir, setlocale, umask, setenv or exit. It must not write to
 * standard output or standard error (use host->log). It must not let a C++ exception or any other unwinding cross this
 * boundary. It must not keep pointers longer than stated below.
 *
 *
 * Versions
 * --------
 *
 * The name of the entry contains the major version. Both tables begin with the same fields. Each side reads only the
 * smaller of the two struct_size values, and fields are only ever appended. The host refuses a descriptor with a wrong
 * magic, another major version or a struct_size smaller than that of version 1.0. Its error message states the reason.
 *
 * A field marked "Since 1.1" exists only if the struct_size of the struct includes it. A host of version 1.0 does not
 * have it. CHANSERV_HAS tests for it:
 *
 *     if (CHANSERV_HAS(sink, chanserv_frame_sink, lend)) { ... sink->lend(...) ... } else { ... sink->append(...) ... }
 *
 * The flags of the descriptor are different. A host refuses a descriptor with a flag that it does not know, and the
 * entry does not know which host calls it. A plugin with CHANSERV_PLUGIN_INLINE therefore does not load in a 1.0 host.
 * A plugin that must load there sets the flag in one of two builds: write `.flags = MY_FLAGS` and build the library
 * twice, with -DMY_FLAGS=CHANSERV_PLUGIN_INLINE and with -DMY_FLAGS=0. All other features of version 1.1 work in one
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

/* The name of the exported function, as an identifier and as a string for dlsym. */
#define CHANSERV_ENTRY chanserv_plugin_v1
#define CHANSERV_ENTRY_NAME "chanserv_plugin_v1"

/*
 * Whether the host's struct at `pointer`, a `struct type`, has the field `field`. False if the field was appended in a
 * later version than the host's.
 */
#define CHANSERV_HAS(pointer, type, field) \
    ((pointer)->struct_size >= offsetof(struct type, field) + sizeof((pointer)->field))

/* Maximum size of a frame, header or request body: 100 MiB (the limit of the wire protocol). */
#define CHANSERV_FRAME_SIZE_MAX ((size_t)104857600)

/* ---------------------------------------------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------------------------------------------- */

/*
 * The status of every function that can fail: zero or above is a result, below zero an error. The host treats an
 * unknown error code, and a result that the comment of the function does not list, as CHANSERV_ERROR_INTERNAL.
 */
typedef int32_t chanserv_status;

enum {
    /* Done. Or: there may be more; poll again when there is room. */
    CHANSERV_READY = 0,
    /* Nothing now. The plugin calls host->wake with the sink's handle at least once when a poll can make progress. */
    CHANSERV_PENDING = 1,
    /* Complete without an error: the call has no more sources, or the source has no more frames. */
    CHANSERV_END = 2,
    /* From a sink: not taken, the batch is full. Return CHANSERV_READY and offer the same item in the next poll. */
    CHANSERV_FULL = 3,

    /* The request, or in create the configuration, is wrong. Repeating it fails again. */
    CHANSERV_ERROR_BAD_REQUEST = -1,
    /* The requested object does not exist. From a configuration getter: the key is absent. */
    CHANSERV_ERROR_NOT_FOUND = -2,
    /* The plugin cannot serve now. A later attempt, or another host, may succeed. */
    CHANSERV_ERROR_BUSY = -3,
    /* Any other failure. */
    CHANSERV_ERROR_INTERNAL = -4,
    /* From a sink: larger than CHANSERV_FRAME_SIZE_MAX, not taken. */
    CHANSERV_ERROR_TOO_LARGE = -5
};

/*
 * The buffer for the message of a failing function. It belongs to the host and is valid until the function returns. It
 * is empty when the function is called. Write at most `capacity` bytes of UTF-8 including a terminating zero, as
 * snprintf does. The message is logged and sent to the client, so it must not contain secrets.
 */
typedef struct chanserv_error {
    char *message;
    size_t capacity;
} chanserv_error;

/* ---------------------------------------------------------------------------------------------------------------
 * The host's table
 * ------------------------------------------------------------------------------------------------------------- */

/* Types that the plugin defines. The host only passes the pointers back. */
typedef struct chanserv_instance chanserv_instance;
typedef struct chanserv_call chanserv_call;
typedef struct chanserv_source chanserv_source;

/* The configuration of one instance: an opaque tree. Valid until create returns. */
typedef struct chanserv_config chanserv_config;

/* Log levels for host->log. */
enum {
    CHANSERV_LOG_DEBUG = 0,
    CHANSERV_LOG_INFO = 1,
    CHANSERV_LOG_WARNING = 2,
    CHANSERV_LOG_ERROR = 3
};

/*
 * The functions of the host, one table for each instance. It is valid from create until destroy has returned. The
 * exceptions are `wake` and `log`: a plugin may copy their function pointers and call them, with the address of the
 * table, until the process ends. The table stays readable until then. All functions may be called from any thread and
 * never block.
 */
typedef struct chanserv_host {
    uint32_t magic;       /* CHANSERV_HOST_MAGIC */
    uint16_t abi_major;   /* CHANSERV_ABI_MAJOR */
    uint16_t abi_minor;   /* the version of the host, may be newer or older than the plugin's */
    uint32_t struct_size; /* sizeof(struct chanserv_host) in the host's version */
    uint32_t reserved;

    /*
     * Requests another poll after CHANSERV_PENDING. `handle` is the `wake` field of that poll's sink. It is the same
     * for all polls of one object. Handles are never reused, so extra calls, calls during a poll, and calls after the
     * object is closed are harmless. A wake during a poll is not lost.
     */
    void (*wake)(const struct chanserv_host *host, uint64_t handle);

    /* Logs `size` bytes of UTF-8 with the plugin's name. An unknown `level` counts as CHANSERV_LOG_INFO. */
    void (*log)(const struct chanserv_host *host, int32_t level, const char *message, size_t size);

    /*
     * The configuration: the value under `config:` in the YAML file, with a route's configuration merged over its
     * plugin's.
     *
     * `path` names a value: keys separated by dots, and list elements by their index, e.g. "limits.0.size". Each getter
     * has three results. CHANSERV_READY: *value is set. CHANSERV_ERROR_NOT_FOUND: the key is absent and *value is
     * unchanged, so initialise *value with the default and treat this as success. CHANSERV_ERROR_BAD_REQUEST: the value
     * has another type; the message states file, line and column. Strings and JSON belong to the host, end in a zero
     * byte that `size` does not count, and are valid until create returns.
     */
    chanserv_status (*config_json)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char **value, size_t *size);
    chanserv_status (*config_string)(const struct chanserv_host *host, const chanserv_config *config,
                                     const char *path, const char **value, size_t *size, chanserv_error *error);
    chanserv_status (*config_integer)(const struct chanserv_host *host, const chanserv_config *config,
                                      const char *path, int64_t *value, chanserv_error *error);
    chanserv_status (*config_number)(const struct chanserv_host *host, const chanserv_config *config,
                                     const char *path, double *value, chanserv_error *error);
    /* Sets *value to 0 or 1. */
    chanserv_status (*config_boolean)(const struct chanserv_host *host, const chanserv_config *config,
                                      const char *path, int32_t *value, chanserv_error *error);
    /* A duration such as `250ms`, `30s`, `5m` or `1h`, in nanoseconds. */
    chanserv_status (*config_duration)(const struct chanserv_host *host, const chanserv_config *config,
                                       const char *path, int64_t *nanoseconds, chanserv_error *error);
    /* A size such as `512`, `64KiB`, `100MiB` or `1GiB`, in bytes. */
    chanserv_status (*config_size)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, uint64_t *bytes, chanserv_error *error);
    /* The number of elements of a list. */
    chanserv_status (*config_count)(const struct chanserv_host *host, const chanserv_config *config,
                                    const char *path, size_t *count, chanserv_error *error);
    /*
     * Checks for keys that the plugin does not know. `known` is an array of `count` top-level keys. CHANSERV_READY:
     * there is no other key. CHANSERV_ERROR_BAD_REQUEST: there is one; the message states its place and the most
     * similar known key. This makes a misspelt option an error at start instead of a silent default.
     */
    chanserv_status (*config_only)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *const *known, size_t count, chanserv_error *error);
    /*
     * A file system path. As config_string, but a relative path is resolved against the folder of the configuration
     * file, like all paths in that file. A plugin cannot do this: it does not know that folder and must not rely on the
     * working directory.
     */
    chanserv_status (*config_path)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, const char **value, size_t *size, chanserv_error *error);

    /* Since 1.1. Private to the host: a plugin neither reads nor writes it. */
    void *context;
    /*
     * Since 1.1. The keys of a mapping, in the order of the configuration file. An empty `path` is the whole
     * configuration. Sets *keys to an array of *count zero-terminated strings. Array and strings belong to the host and
     * are valid until create returns. A key that contains a dot cannot be part of a `path`.
     */
    chanserv_status (*config_keys)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, const char *const **keys, size_t *count,
                                   chanserv_error *error);
} chanserv_host;

/* ---------------------------------------------------------------------------------------------------------------
 * Requests and sinks
 * ------------------------------------------------------------------------------------------------------------- */

/* One request. The struct and everything it points to belong to the host and are valid until open returns. */
typedef struct chanserv_request {
    uint32_t struct_size;
    uint32_t reserved;
    const void *body; /* the request body; never NULL, even if body_size is 0 */
    size_t body_size; /* at most CHANSERV_FRAME_SIZE_MAX */
    const char *vaddr;          /* the virtual address of the route, zero-terminated */
    const char *remote_address; /* the address of the client in AstraNet notation, zero-terminated */

    /*
     * Since 1.1: properties of the request that the client and the connection state. Strings are zero-terminated. All
     * but peer_address and identity come from the client and are not verified.
     */
    int64_t deadline;         /* nanoseconds from the call of open until the client gives up; -1: no deadline */
    const char *meta;         /* the tag "meta", free text about the request; NULL: not set */
    const char *bucket;       /* the tag "bucket", by which the client chose among several hosts; NULL: not set */
    const char *traceparent;  /* W3C Trace Context; NULL: not set */
    const char *peer_address; /* `ip:port` of the client, or of the router on the way; may be "" */
    const char *identity;     /* the verified identity of the client, such as a URI of its certificate; "": none */
    uint32_t flags;           /* 0 in this version; ignore bits you do not know */
    uint32_t reserved_1;
} chanserv_request;

/* Receives the sources of one poll_sources. Belongs to the host; valid until that poll returns. */
typedef struct chanserv_source_sink {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t wake; /* for host->wake if this poll returns CHANSERV_PENDING; the same in every poll of this call */
    /*
     * Adds a source. `header` is copied. CHANSERV_READY: taken. From now on the host polls `source`, perhaps at once
     * from another thread, so it must be ready. The host calls close_source exactly once. CHANSERV_FULL: not taken,
     * `source` stays with the plugin. CHANSERV_ERROR_TOO_LARGE: not taken, the header is too large. An empty sink takes
     * at least one source.
     */
    chanserv_status (*add)(struct chanserv_source_sink *sink, const void *header, size_t header_size,
                           chanserv_source *source);

    /* Since 1.1. Private to the host: a plugin neither reads nor writes it. */
    void *context;
} chanserv_source_sink;

/* Receives the frames of one poll_frames. Belongs to the host; valid until that poll returns. */
typedef struct chanserv_frame_sink {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t wake; /* for host->wake if this poll returns CHANSERV_PENDING; the same in every poll of this source */
    /*
     * Adds a frame of `size` bytes by copying it into the outgoing buffer. CHANSERV_READY: taken. CHANSERV_FULL: not
     * taken, because the batch has other frames and no room for this one. An empty sink takes every frame up to
     * CHANSERV_FRAME_SIZE_MAX, so a large frame is delayed by one poll, never truncated or refused.
     * CHANSERV_ERROR_TOO_LARGE: not taken, larger than CHANSERV_FRAME_SIZE_MAX.
     */
    chanserv_status (*append)(struct chanserv_frame_sink *sink, const void *data, size_t size);
    /*
     * Reserves at least `minimum` bytes inside the outgoing buffer, for a frame whose length is not known yet. Fill
     * them and call `commit`. Sets *capacity (>= minimum) and returns the start of the frame. A second call before
     * commit enlarges the reservation and keeps its content; the address may change. NULL: this batch has no room
     * (return CHANSERV_READY; an empty sink has room), or `minimum` is larger than CHANSERV_FRAME_SIZE_MAX. A
     * reservation that is not committed when the poll returns is dropped.
     */
    void *(*reserve)(struct chanserv_frame_sink *sink, size_t minimum, size_t *capacity);
    /* Makes a frame of the first `size` bytes of the reservation. `size` must not exceed the capacity. */
    chanserv_status (*commit)(struct chanserv_frame_sink *sink, size_t size);

    /* Since 1.1. Private to the host: a plugin neither reads nor writes it. */
    void *context;
    /*
     * Since 1.1. Adds a frame as `append` does, but the host sends it from the plugin's memory instead of copying it.
     *
     * CHANSERV_READY: taken. The `size` bytes at `data` must not move or change until the host has called
     * `release(context)`. It calls it exactly once: perhaps before `lend` returns, perhaps long after close_source and
     * close_call of the source, but always before destroy of the instance. Any thread may call it, at the same time as
     * any other function of the plugin (also with CHANSERV_PLUGIN_SERIAL) and as other releases. `release` must return
     * as quickly as a poll and must not call the sink. It may call host->wake. CHANSERV_FULL, CHANSERV_ERROR_TOO_LARGE:
     * as `append`. CHANSERV_ERROR_BAD_REQUEST: `data` or `release` is NULL. After any result but CHANSERV_READY nothing
     * was lent: `release` is not called, and the memory stays with the plugin.
     *
     * The same memory may be lent any number of times, each time with its own release. The host copies the frame and
     * releases it at once in these cases: the frame is smaller than 8 KiB, the source is compressed, the frame begins
     * with "lz4!", or the instance has already lent 64 MiB. A plugin must not wait for a release inside one of its
     * functions. It should return CHANSERV_PENDING and call wake in `release`.
     *
     * Never lend a file mapping (mmap of a file). If another process truncates the file, reading the mapping raises
     * SIGBUS, which ends the host. Read the file into memory and lend that.
     */
    chanserv_status (*lend)(struct chanserv_frame_sink *sink, const void *data, size_t size,
                            void (*release)(void *context), void *context);
} chanserv_frame_sink;

/* ---------------------------------------------------------------------------------------------------------------
 * The plugin's table
 * ------------------------------------------------------------------------------------------------------------- */

/* Descriptor flags. The host refuses a descriptor with flags that it does not know. */
enum {
    CHANSERV_PLUGIN_SERIAL = 1 << 0,   /* functions of one instance must never overlap */
    CHANSERV_PLUGIN_BLOCKING = 1 << 1, /* functions may block; they need threads of their own */
    /*
     * Since 1.1. The open, poll and close functions return within microseconds, so the host may call them on a network
     * event loop. Not together with CHANSERV_PLUGIN_BLOCKING. A 1.0 host refuses it; see "Versions" above.
     */
    CHANSERV_PLUGIN_INLINE = 1 << 2
};

/* The table that CHANSERV_ENTRY returns. It is constant and valid until the process ends. No function may be NULL. */
typedef struct chanserv_plugin {
    uint32_t magic;       /* CHANSERV_PLUGIN_MAGIC */
    uint16_t abi_major;   /* CHANSERV_ABI_MAJOR */
    uint16_t abi_minor;   /* CHANSERV_ABI_MINOR */
    uint32_t struct_size; /* sizeof(struct chanserv_plugin) */
    uint32_t flags;       /* CHANSERV_PLUGIN_… */
    const char *name;     /* short, for logs; zero-terminated UTF-8 */
    const char *version;  /* version of the plugin in any format; zero-terminated UTF-8 */

    /*
     * Creates an instance. `config` is valid until the function returns, `host` until destroy has returned. Returns
     * CHANSERV_READY and sets *instance, or returns an error with a message. After an error the host does not start, or
     * rejects the reload and keeps the old generation. May block, but a start or a reload waits for it. Validate the
     * whole configuration here.
     */
    chanserv_status (*create)(const chanserv_host *host, const chanserv_config *config,
                              chanserv_instance **instance, chanserv_error *error);
    /*
     * Frees an instance. Called exactly once, after the last close_call and the last release of a lent frame. May block
     * while it joins its threads.
     */
    void (*destroy)(chanserv_instance *instance);

    /*
     * Begins to serve a request. Returns CHANSERV_READY and sets *call, or returns an error with a message for the
     * client. After an error no other function is called for the request. Several requests of one instance may be
     * opened at the same time.
     */
    chanserv_status (*open)(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                            chanserv_error *error);
    /*
     * Requests sources. Add all available sources until the sink is full, then return CHANSERV_READY (there may be
     * more), CHANSERV_PENDING, CHANSERV_END or an error. An error fails the request at the client; sources that were
     * added go on. Not called again after CHANSERV_END or an error.
     */
    chanserv_status (*poll_sources)(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error);
    /*
     * Requests the early end of a call, because the client is gone or the host is draining. Make a running poll return
     * soon, and wake a call that returned CHANSERV_PENDING. May be called several times, from any thread, and may
     * overlap a poll. Must not block. The results of later polls do not matter (preferably an error). The host may also
     * close the call without another poll.
     */
    void (*cancel_call)(chanserv_call *call);
    /* Frees a call. Called exactly once, after close_source of each of its sources, and never overlaps a poll. */
    void (*close_call)(chanserv_call *call);

    /*
     * Requests frames of a source, as poll_sources does for sources. Frames that are already in the sink are sent
     * whatever the result is. An error ends this source, with the message at the client.
     */
    chanserv_status (*poll_frames)(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
    /* As cancel_call, for a source. */
    void (*cancel_source)(chanserv_source *source);
    /* Frees a source. Always called, exactly once, and never overlaps a poll of it. */
    void (*close_source)(chanserv_source *source);
} chanserv_plugin;

/*
 * The only exported function. Called once for each loaded copy, from any thread. If it returns NULL, the host does not
 * load the library.
 */
CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void);

#ifdef __cplusplus
}
#endif

#endif /* CHANSERV_PLUGIN_H */
