/*
 * chanserv_push.h: plugins that push frames, built on the plugin ABI (chanserv_plugin.h). Optional and header-only, for
 * C11 and C++. It needs only POSIX threads.
 *
 * The host polls: it requests frames from a plugin whenever the client has room. Code that blocks, for example around a
 * device, a socket or a library with callbacks, is easier to write if it pushes. With this header you write one
 * function. It runs on its own thread for each request, adds sources, pushes frames to them, and blocks while a client
 * reads slowly. This header handles cancellation, backpressure and wakes.
 *
 *
 * A complete plugin
 * -----------------
 *
 * The request names a text file. The plugin serves one source with a frame for each line.
 *
 * [sample]
 * #define _POSIX_C_SOURCE 200809L // for open, fstat and fdopen, also if the compiler is in strict C mode
 * #include "chanserv_push.h"
 *
 * #include <fcntl.h>
 * #include <stdio.h>
 * #include <stdlib.h>
 * #include <string.h>
 * #include <sys/stat.h>
 * #include <unistd.h>
 *
 * struct chanserv_instance {
 *     chanserv_producers producers; // must be the first member
 * };
 *
 * // Opens only regular files. Reading a pipe could block, and then chanserv_push_on_cancel would have to end the read.
 * static FILE *open_file(const char *path) {
 *     struct stat about;
 *     int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // does not wait for a writer of a pipe
 *     if (descriptor < 0) return NULL;
 *     FILE *file = fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) ? fdopen(descriptor, "r") : NULL;
 *     if (file == NULL) close(descriptor);
 *     return file;
 * }
 *
 * static chanserv_status produce(chanserv_instance *instance, const chanserv_request *request,
 *                                chanserv_pusher *pusher, chanserv_error *error) {
 *     (void)instance;
 *     char path[256], line[4096];
 *     if (request->body_size >= sizeof path || memchr(request->body, 0, request->body_size) != NULL) {
 *         snprintf(error->message, error->capacity, "the request is not a path of at most %zu bytes", sizeof path - 1);
 *         return CHANSERV_ERROR_BAD_REQUEST;
 *     }
 *     memcpy(path, request->body, request->body_size);
 *     path[request->body_size] = '\0';
 *     FILE *file = open_file(path);
 *     if (file == NULL) { // without the path: a message must be UTF-8, but a request may be any bytes
 *         snprintf(error->message, error->capacity, "the file does not exist or is not readable");
 *         return CHANSERV_ERROR_NOT_FOUND;
 *     }
 *     chanserv_source *source;
 *     chanserv_status status = chanserv_push_source(pusher, path, strlen(path), &source);
 *     chanserv_push_listed(pusher); // there is only one
 *     while (status == CHANSERV_READY && fgets(line, sizeof line, file) != NULL) {
 *         status = chanserv_push(source, line, strlen(line)); // waits while the client reads slowly
 *     }
 *     if (status == CHANSERV_READY && ferror(file)) {
 *         snprintf(error->message, error->capacity, "reading the file failed");
 *         status = CHANSERV_ERROR_INTERNAL;
 *     }
 *     fclose(file);
 *     return status; // also ends the source
 * }
 *
 * static chanserv_status create(const chanserv_host *host, const chanserv_config *config,
 *                               chanserv_instance **instance, chanserv_error *error) {
 *     chanserv_status status = host->config_only(host, config, NULL, 0, error);
 *     if (status < 0) return status;
 *     chanserv_instance *made = (chanserv_instance *)calloc(1, sizeof *made);
 *     if (made == NULL) return CHANSERV_ERROR_INTERNAL;
 *     status = chanserv_producers_start(&made->producers, host, produce, NULL);
 *     if (status < 0) {
 *         free(made); // after an error, destroy is not called
 *         return status;
 *     }
 *     *instance = made;
 *     return status;
 * }
 *
 * static void destroy(chanserv_instance *instance) {
 *     chanserv_producers_stop(&instance->producers); // waits for its threads
 *     free(instance);
 * }
 *
 * static const chanserv_plugin plugin = CHANSERV_PUSH_DESCRIPTOR("lines", "1", create, destroy);
 *
 * CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &plugin; }
 * [end]
 *
 *
 * Rules
 * -----
 *
 * - Each request has a thread, created in `open`, which runs your function. If `threads` requests are running, a
 *   further request fails with CHANSERV_ERROR_BUSY. A source may have its own thread in addition
 *   (chanserv_push_source_on_thread). A request counts until its last thread has ended, so there are at most `threads`
 *   x (1 + `source_threads`) threads.
 * - Each source has a bounded queue. A push waits while the queue is full, and continues when the host has taken the
 *   queued frames. A source therefore uses at most twice `bytes` of memory, or twice its largest frame if that is
 *   larger.
 * - Many clients request all sources before they read frames. The list of sources is complete when your function
 *   returns or calls chanserv_push_listed. Do not block in a push before that, or you and such a client wait for each
 *   other. Add all sources before you push to them, or give each source a thread.
 * - When the client is gone, waiting pushes and all later ones fail at once with CHANSERV_PUSH_CANCELLED. Return soon
 *   then; the result is ignored. Sources are cancelled one by one, so other sources of the request may go on.
 * - If your code waits for something other than a push, set a function that ends this wait with
 *   chanserv_push_on_cancel, or call chanserv_push_is_cancelled regularly. Otherwise your function keeps its thread,
 *   and chanserv_producers_stop waits for it. So do `destroy`, a reload and the end of the host.
 * - A C++ exception must not leave your functions. Nothing on their threads catches it, so it ends the host.
 * - The threads block all signals except those that report a fault of the code itself (SIGSEGV, SIGBUS, SIGFPE, SIGILL,
 *   SIGTRAP, SIGSYS), which crash reporters and runtimes need. A program that you start from such a thread inherits the
 *   mask: reset it (POSIX_SPAWN_SETSIGMASK). No thread is left when chanserv_producers_stop has returned.
 * - Do not define macros that begin with CHANSERV_PUSH_: all options are in chanserv_push_options. Include the header
 *   in one source file only. It defines struct chanserv_call and struct chanserv_source, which other plugins define
 *   themselves.
 */
#ifndef CHANSERV_PUSH_H
#define CHANSERV_PUSH_H

#include "chanserv_plugin.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Result of a push or of adding a source: the client is gone. It is never sent to a client. */
enum { CHANSERV_PUSH_CANCELLED = -100 };

/* Maximum size of an error message, including its terminating zero. */
#define CHANSERV_PUSH_MESSAGE_MAX 512

/* One request, passed to the function that serves it. */
typedef struct chanserv_call chanserv_pusher;

/*
 * Serves a request on its own thread. It may block. `request` and everything it points to, `pusher` and the sources
 * that it adds are valid until the function returns. Return CHANSERV_READY (or CHANSERV_END) after success, or an error
 * and a message. Sources that you have not ended by then end in the same way. If no source was added, or the list is
 * not complete, the request ends in the same way.
 */
typedef chanserv_status chanserv_produce(chanserv_instance *instance, const chanserv_request *request,
                                         chanserv_pusher *pusher, chanserv_error *error);

/* Pushes the frames of one source on its own thread. The source ends when the function returns, with its result. */
typedef chanserv_status chanserv_produce_source(void *argument, chanserv_source *source, chanserv_error *error);

/* Called when a request or a source is cancelled. It must not block and must not call a function of this header. */
typedef void chanserv_on_cancel(void *argument);

/* The limits. 0 selects the default. */
typedef struct chanserv_push_options {
    size_t frames;         /* frames in the queue of a source; default 256 */
    size_t bytes;          /* bytes in the queue of a source; default 256 KiB; a larger frame is queued alone */
    size_t sources;        /* sources of a request that the host has not taken; default 64 */
    size_t threads;        /* concurrent requests, each until its last thread has ended; default 64 */
    size_t source_threads; /* concurrent threads of sources in each request; default 16 */
} chanserv_push_options;

/* The threads of an instance. It must be the first member of your struct chanserv_instance. */
typedef struct chanserv_producers {
    const chanserv_host *host;
    chanserv_produce *produce;
    chanserv_push_options options;
    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t idle;
    size_t requests;  /* requests that have a thread */
    size_t running;   /* all threads */
    pthread_t ended;  /* the thread that ended last; each thread joins the previous one */
    int has_ended;
} chanserv_producers;

/* ---------------------------------------------------------------------------------------------------------------
 * Public: functions for create and destroy
 * ------------------------------------------------------------------------------------------------------------- */

/*
 * Call it in create. `options` may be NULL. It starts no thread. Returns CHANSERV_READY, or an error if the system has
 * no resources.
 */
static inline chanserv_status chanserv_producers_start(chanserv_producers *producers, const chanserv_host *host,
                                                       chanserv_produce *produce, const chanserv_push_options *options);
/* Call it in destroy, before anything else. Waits until all functions have returned, and joins their threads. */
static inline void chanserv_producers_stop(chanserv_producers *producers);

/* The descriptor of the plugin: the functions of this header and your create and destroy. */
#define CHANSERV_PUSH_DESCRIPTOR(name, version, create, destroy)                                                        \
    {                                                                                                                   \
        CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), 0, name, version,       \
            create, destroy, chanserv_pushing_open, chanserv_pushing_poll_sources, chanserv_pushing_cancel_call,        \
            chanserv_pushing_close_call, chanserv_pushing_poll_frames, chanserv_pushing_cancel_source,                  \
            chanserv_pushing_close_source                                                                               \
    }

/* ---------------------------------------------------------------------------------------------------------------
 * Public: functions for your produce function and for threads that it waits for
 * ------------------------------------------------------------------------------------------------------------- */

/*
 * Adds a source. `header` is copied. Waits while the host takes no source. CHANSERV_READY: *source is set; it is yours
 * until you end it or your function returns. Other results: CHANSERV_PUSH_CANCELLED; CHANSERV_ERROR_TOO_LARGE;
 * CHANSERV_ERROR_BAD_REQUEST after chanserv_push_listed; CHANSERV_ERROR_INTERNAL if there is no memory. *source is NULL
 * then.
 */
static inline chanserv_status chanserv_push_source(chanserv_pusher *pusher, const void *header, size_t size,
                                                   chanserv_source **source);
/*
 * Adds a source whose frames `produce` pushes on its own thread, in parallel to other sources. It may continue after
 * the function of the request has returned. `argument` belongs to `produce`; if this function fails, `produce` is not
 * called. Waits also while the request has `source_threads` such threads. Further result: CHANSERV_ERROR_BUSY if the
 * system cannot create a thread. A client that requests the next source before it reads its earlier ones waits for ever
 * beyond that limit.
 */
static inline chanserv_status chanserv_push_source_on_thread(chanserv_pusher *pusher, const void *header, size_t size,
                                                             chanserv_produce_source *produce, void *argument);
/* Completes the list of sources. The client is informed at once, not when your function returns. */
static inline void chanserv_push_listed(chanserv_pusher *pusher);

/*
 * Pushes a frame, which is copied. Waits while the queue of the source is full. Returns CHANSERV_READY,
 * CHANSERV_PUSH_CANCELLED, CHANSERV_ERROR_TOO_LARGE (more than CHANSERV_FRAME_SIZE_MAX), or CHANSERV_ERROR_INTERNAL if
 * there is no memory. Any thread may call it. If several threads push to one source, the order of their frames is
 * undefined.
 */
static inline chanserv_status chanserv_push(chanserv_source *source, const void *data, size_t size);
/*
 * As chanserv_push, but the frame is not copied. After CHANSERV_READY the memory must not change until
 * `release(context)` is called, exactly once, by any thread. After any other result it is not called. The rules of
 * `lend` in chanserv_plugin.h apply: the source may be closed before the release, destroy is called after it, and the
 * memory must not be a file mapping. A host of version 1.0 copies the frame when it takes it.
 * CHANSERV_ERROR_BAD_REQUEST: `release` is NULL.
 */
static inline chanserv_status chanserv_push_lent(chanserv_source *source, const void *data, size_t size,
                                                 void (*release)(void *context), void *context);

/* Ends a source of chanserv_push_source: it is complete and no longer yours. The client receives all pushed frames. */
static inline void chanserv_push_end(chanserv_source *source);
/* Ends a source with an error (CHANSERV_ERROR_…) and a message, after all pushed frames. */
static inline void chanserv_push_fail(chanserv_source *source, chanserv_status status, const char *message);

/* Whether the request, or one source, is cancelled. */
static inline int chanserv_push_is_cancelled(chanserv_pusher *pusher);
static inline int chanserv_push_source_is_cancelled(chanserv_source *source);
/*
 * Sets a function that is called once when the request is cancelled, or at once if it is already cancelled. It replaces
 * the earlier function. NULL removes it; it is not running after that. Remove it before `argument` becomes invalid and
 * before your function returns.
 */
static inline void chanserv_push_on_cancel(chanserv_pusher *pusher, chanserv_on_cancel *function, void *argument);
/* As chanserv_push_on_cancel, for one source. */
static inline void chanserv_push_source_on_cancel(chanserv_source *source, chanserv_on_cancel *function,
                                                  void *argument);

/* ---------------------------------------------------------------------------------------------------------------
 * Private: the implementation
 *
 * The host and the producer each hold a reference to a call and to a source; the last release frees it. Locks are taken
 * in the order call, source, producers. `wake` is called with locks held: it never blocks and never calls back.
 * ------------------------------------------------------------------------------------------------------------- */

struct chanserv_pushing_frame {
    struct chanserv_pushing_frame *next;
    size_t size;
    const void *bytes;
    void (*release)(void *context); /* of a lent frame; NULL: the bytes follow the struct */
    void *context;
};

/* Minimum size of a copied frame that is lent to the host. The host would copy smaller ones. */
#define CHANSERV_PUSHING_LENT_MIN ((size_t)8192)

/* The state of a call or a source: its end, and the handle that wakes the host. */
struct chanserv_pushing_side {
    int references;
    int is_cancelled;  /* the host accepts no more */
    int is_over;       /* the producer adds no more */
    int is_waited_for; /* the last poll returned PENDING */
    uint64_t wake;
    chanserv_status result;
    char message[CHANSERV_PUSH_MESSAGE_MAX];
    chanserv_on_cancel *on_cancel;
    void *on_cancel_argument;
};

struct chanserv_source {
    struct chanserv_call *call;
    struct chanserv_source *next;                     /* not passed to the host yet; under the lock of the call */
    struct chanserv_source *next_open, *previous_open; /* not ended yet; under the lock of the call */
    chanserv_produce_source *produce;                 /* runs on its own thread; may be NULL */
    void *argument;
    size_t header_size; /* the header follows the struct */

    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t room;
    struct chanserv_pushing_side side;
    struct chanserv_pushing_frame *first, *last;
    size_t frames, bytes;

    struct chanserv_pushing_frame *taken; /* taken by the host and not sent yet; only polls use it */
};

struct chanserv_call {
    chanserv_instance *instance;
    chanserv_producers *producers;
    chanserv_request request; /* the memory that it points to follows the struct */

    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t room;
    struct chanserv_pushing_side side;
    struct chanserv_source *first, *last; /* not passed to the host yet */
    size_t sources;
    struct chanserv_source *open; /* sources of chanserv_push_source that have not ended */
    size_t source_threads;
    int has_thread; /* whether the thread that runs the function has not ended */
};

/* ---- State of a call or a source; called with its lock held ---- */

static inline void chanserv_pushing_wake(chanserv_producers *producers, struct chanserv_pushing_side *side) {
    if (side->is_waited_for) {
        side->is_waited_for = 0;
        producers->host->wake(producers->host, side->wake);
    }
}

static inline void chanserv_pushing_cancel(struct chanserv_pushing_side *side) {
    chanserv_on_cancel *function = side->on_cancel;
    side->is_cancelled = 1;
    side->on_cancel = NULL;
    if (function != NULL) {
        function(side->on_cancel_argument);
    }
}

static inline void chanserv_pushing_on_cancel(struct chanserv_pushing_side *side, chanserv_on_cancel *function,
                                              void *argument) {
    side->on_cancel = function;
    side->on_cancel_argument = argument;
    if (side->is_cancelled) {
        chanserv_pushing_cancel(side);
    }
}

static inline void chanserv_pushing_over(struct chanserv_pushing_side *side, chanserv_status status,
                                         const char *message) {
    if (side->is_over) {
        return;
    }
    side->is_over = 1;
    side->result = status < 0 ? status : CHANSERV_END;
    if (status < 0 && message != NULL) {
        size_t size = strlen(message);
        size = size < sizeof side->message ? size : sizeof side->message - 1;
        memcpy(side->message, message, size); /* the rest is zero */
    }
}

/* Returns the result of a poll that found nothing to take. */
static inline chanserv_status chanserv_pushing_answer(struct chanserv_pushing_side *side, uint64_t wake,
                                                      chanserv_error *error) {
    const char *message = side->message;
    if (side->is_cancelled) {
        message = "cancelled";
    } else if (!side->is_over) {
        side->wake = wake;
        side->is_waited_for = 1;
        return CHANSERV_PENDING;
    } else if (side->result >= 0) {
        return CHANSERV_END;
    }
    if (error->capacity > 0) {
        size_t size = strlen(message);
        size = size < error->capacity ? size : error->capacity - 1;
        memcpy(error->message, message, size);
        error->message[size] = '\0';
    }
    return side->is_cancelled ? CHANSERV_ERROR_INTERNAL : side->result;
}

/* ---- Releasing calls and sources ---- */

static inline void chanserv_pushing_release_call(struct chanserv_call *call) {
    pthread_mutex_lock(&call->lock);
    int left = --call->side.references;
    pthread_mutex_unlock(&call->lock);
    if (left == 0) {
        pthread_cond_destroy(&call->room);
        pthread_mutex_destroy(&call->lock);
        free(call);
    }
}

static inline void chanserv_pushing_free_frames(struct chanserv_pushing_frame *frame) {
    while (frame != NULL) {
        struct chanserv_pushing_frame *next = frame->next;
        if (frame->release != NULL) {
            frame->release(frame->context);
        }
        free(frame);
        frame = next;
    }
}

static inline void chanserv_pushing_release_source(struct chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    int left = --source->side.references;
    pthread_mutex_unlock(&source->lock);
    if (left == 0) {
        struct chanserv_call *call = source->call;
        chanserv_pushing_free_frames(source->first);
        pthread_cond_destroy(&source->room);
        pthread_mutex_destroy(&source->lock);
        free(source);
        chanserv_pushing_release_call(call);
    }
}

/* ---- Threads ---- */

/* The creator's mask is changed while it creates the thread, so that the thread starts with the changed mask. */
static inline int chanserv_pushing_create_thread(pthread_t *thread, void *(*run)(void *), void *argument) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        sigdelset(&blocked, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int failed = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* Each thread joins the one that ended before it. chanserv_producers_stop joins the last one. */
static inline void chanserv_pushing_thread_ends(chanserv_producers *producers, int was_last_of_request) {
    pthread_mutex_lock(&producers->lock);
    pthread_t before = producers->ended;
    int joins = producers->has_ended;
    producers->ended = pthread_self();
    producers->has_ended = 1;
    producers->requests -= was_last_of_request ? 1 : 0;
    if (--producers->running == 0) {
        pthread_cond_broadcast(&producers->idle);
    }
    pthread_mutex_unlock(&producers->lock);
    if (joins) {
        pthread_join(before, NULL);
    }
}

/* Starts a thread. Returns 0, or CHANSERV_ERROR_BUSY and a message. */
static inline chanserv_status chanserv_pushing_start_thread(chanserv_producers *producers, int is_request,
                                                            void *(*run)(void *), void *argument,
                                                            const char **message) {
    pthread_t thread;
    chanserv_status status = CHANSERV_READY;
    pthread_mutex_lock(&producers->lock);
    if (is_request && producers->requests >= producers->options.threads) {
        *message = "the plugin has reached its limit of requests with a thread";
        status = CHANSERV_ERROR_BUSY;
    } else if (chanserv_pushing_create_thread(&thread, run, argument) != 0) {
        *message = "the system cannot create a thread";
        status = CHANSERV_ERROR_BUSY;
    } else {
        producers->requests += is_request ? 1 : 0;
        producers->running++;
    }
    pthread_mutex_unlock(&producers->lock);
    return status;
}

static inline void chanserv_pushing_end_source(struct chanserv_source *source, chanserv_status status,
                                               const char *message) {
    struct chanserv_call *call = source->call;
    if (source->produce == NULL) {
        pthread_mutex_lock(&call->lock);
        *(source->previous_open != NULL ? &source->previous_open->next_open : &call->open) = source->next_open;
        if (source->next_open != NULL) {
            source->next_open->previous_open = source->previous_open;
        }
        pthread_mutex_unlock(&call->lock);
    }
    pthread_mutex_lock(&source->lock);
    source->side.on_cancel = NULL;
    chanserv_pushing_over(&source->side, status, message);
    chanserv_pushing_wake(call->producers, &source->side);
    pthread_mutex_unlock(&source->lock);
    chanserv_pushing_release_source(source);
}

static inline void *chanserv_pushing_run_call(void *argument) {
    struct chanserv_call *call = (struct chanserv_call *)argument;
    chanserv_producers *producers = call->producers;
    char message[CHANSERV_PUSH_MESSAGE_MAX] = "";
    chanserv_error error = {message, sizeof message};
    chanserv_status status = producers->produce(call->instance, &call->request, call, &error);
    while (call->open != NULL) { /* only this thread adds to it; by contract no other thread ends sources now */
        chanserv_pushing_end_source(call->open, status, message);
    }
    pthread_mutex_lock(&call->lock);
    call->side.on_cancel = NULL;
    chanserv_pushing_over(&call->side, status, message);
    chanserv_pushing_wake(producers, &call->side);
    call->has_thread = 0; /* no source gets a thread any more */
    int is_last = call->source_threads == 0;
    pthread_mutex_unlock(&call->lock);
    chanserv_pushing_release_call(call);
    chanserv_pushing_thread_ends(producers, is_last);
    return NULL;
}

static inline void *chanserv_pushing_run_source(void *argument) {
    struct chanserv_source *source = (struct chanserv_source *)argument;
    struct chanserv_call *call = source->call;
    chanserv_producers *producers = call->producers;
    char message[CHANSERV_PUSH_MESSAGE_MAX] = "";
    chanserv_error error = {message, sizeof message};
    chanserv_status status = source->produce(source->argument, source, &error);
    /* Before the source is released, which may free the call. */
    pthread_mutex_lock(&call->lock);
    call->source_threads--;
    int is_last = call->source_threads == 0 && !call->has_thread;
    pthread_cond_broadcast(&call->room);
    pthread_mutex_unlock(&call->lock);
    chanserv_pushing_end_source(source, status, message);
    chanserv_pushing_thread_ends(producers, is_last);
    return NULL;
}

static inline chanserv_status chanserv_producers_start(chanserv_producers *producers, const chanserv_host *host,
                                                       chanserv_produce *produce,
                                                       const chanserv_push_options *options) {
    chanserv_push_options chosen = {0, 0, 0, 0, 0};
    if (options != NULL) {
        chosen = *options;
    }
    chosen.frames = chosen.frames != 0 ? chosen.frames : 256;
    chosen.bytes = chosen.bytes != 0 ? chosen.bytes : 256 * 1024;
    chosen.sources = chosen.sources != 0 ? chosen.sources : 64;
    chosen.threads = chosen.threads != 0 ? chosen.threads : 64;
    chosen.source_threads = chosen.source_threads != 0 ? chosen.source_threads : 16;
    producers->host = host;
    producers->produce = produce;
    producers->options = chosen;
    producers->requests = 0;
    producers->running = 0;
    producers->has_ended = 0;
    if (pthread_mutex_init(&producers->lock, NULL) != 0) {
        return CHANSERV_ERROR_INTERNAL;
    }
    if (pthread_cond_init(&producers->idle, NULL) != 0) {
        pthread_mutex_destroy(&producers->lock);
        return CHANSERV_ERROR_INTERNAL;
    }
    return CHANSERV_READY;
}

static inline void chanserv_producers_stop(chanserv_producers *producers) {
    pthread_mutex_lock(&producers->lock);
    while (producers->running > 0) {
        pthread_cond_wait(&producers->idle, &producers->lock);
    }
    pthread_mutex_unlock(&producers->lock);
    if (producers->has_ended) {
        pthread_join(producers->ended, NULL);
    }
    pthread_cond_destroy(&producers->idle);
    pthread_mutex_destroy(&producers->lock);
}

/* ---- The producer ---- */

static inline chanserv_status chanserv_pushing_add(chanserv_pusher *call, const void *header, size_t size,
                                                   chanserv_produce_source *produce, void *argument,
                                                   chanserv_source **result) {
    const chanserv_push_options *options = &call->producers->options;
    if (size > CHANSERV_FRAME_SIZE_MAX) {
        return CHANSERV_ERROR_TOO_LARGE;
    }
    struct chanserv_source *source = (struct chanserv_source *)calloc(1, sizeof *source + size);
    if (source == NULL || pthread_mutex_init(&source->lock, NULL) != 0) {
        free(source);
        return CHANSERV_ERROR_INTERNAL;
    }
    if (pthread_cond_init(&source->room, NULL) != 0) {
        pthread_mutex_destroy(&source->lock);
        free(source);
        return CHANSERV_ERROR_INTERNAL;
    }
    source->call = call;
    source->produce = produce;
    source->argument = argument;
    source->header_size = size;
    source->side.references = 2;
    if (size > 0) {
        memcpy(source + 1, header, size);
    }

    const char *message; /* not used: the status is sufficient here */
    chanserv_status status = CHANSERV_READY;
    pthread_mutex_lock(&call->lock);
    while (!call->side.is_cancelled && !call->side.is_over &&
           (call->sources >= options->sources ||
            (produce != NULL && call->source_threads >= options->source_threads))) {
        pthread_cond_wait(&call->room, &call->lock);
    }
    if (call->side.is_cancelled) {
        status = CHANSERV_PUSH_CANCELLED;
    } else if (call->side.is_over) {
        status = CHANSERV_ERROR_BAD_REQUEST;
    } else if (produce != NULL) {
        status = chanserv_pushing_start_thread(call->producers, 0, chanserv_pushing_run_source, source, &message);
    }
    if (status == CHANSERV_READY) {
        call->side.references++;
        *(call->first != NULL ? &call->last->next : &call->first) = source;
        call->last = source;
        call->sources++;
        if (produce != NULL) {
            call->source_threads++;
        } else {
            source->next_open = call->open;
            if (call->open != NULL) {
                call->open->previous_open = source;
            }
            call->open = source;
        }
        chanserv_pushing_wake(call->producers, &call->side);
    }
    pthread_mutex_unlock(&call->lock);
    if (status != CHANSERV_READY) {
        pthread_cond_destroy(&source->room);
        pthread_mutex_destroy(&source->lock);
        free(source);
        return status;
    }
    *result = source;
    return CHANSERV_READY;
}

static inline chanserv_status chanserv_push_source(chanserv_pusher *pusher, const void *header, size_t size,
                                                   chanserv_source **source) {
    *source = NULL;
    return chanserv_pushing_add(pusher, header, size, NULL, NULL, source);
}

static inline chanserv_status chanserv_push_source_on_thread(chanserv_pusher *pusher, const void *header, size_t size,
                                                             chanserv_produce_source *produce, void *argument) {
    chanserv_source *source;
    return chanserv_pushing_add(pusher, header, size, produce, argument, &source);
}

static inline void chanserv_push_listed(chanserv_pusher *pusher) {
    pthread_mutex_lock(&pusher->lock);
    chanserv_pushing_over(&pusher->side, CHANSERV_END, NULL);
    chanserv_pushing_wake(pusher->producers, &pusher->side);
    pthread_mutex_unlock(&pusher->lock);
}

/* Adds a frame to the queue when there is room. CHANSERV_READY: the frame belongs to the queue. */
static inline chanserv_status chanserv_pushing_add_frame(chanserv_source *source,
                                                         struct chanserv_pushing_frame *frame) {
    const chanserv_push_options *options = &source->call->producers->options;
    pthread_mutex_lock(&source->lock);
    while (!source->side.is_cancelled && source->frames > 0 &&
           (source->frames >= options->frames || source->bytes + frame->size > options->bytes)) {
        pthread_cond_wait(&source->room, &source->lock);
    }
    int is_cancelled = source->side.is_cancelled;
    if (!is_cancelled) {
        *(source->first != NULL ? &source->last->next : &source->first) = frame;
        source->last = frame;
        source->frames++;
        source->bytes += frame->size;
        chanserv_pushing_wake(source->call->producers, &source->side);
    }
    pthread_mutex_unlock(&source->lock);
    return is_cancelled ? (chanserv_status)CHANSERV_PUSH_CANCELLED : (chanserv_status)CHANSERV_READY;
}

static inline chanserv_status chanserv_push(chanserv_source *source, const void *data, size_t size) {
    if (size > CHANSERV_FRAME_SIZE_MAX) {
        return CHANSERV_ERROR_TOO_LARGE;
    }
    struct chanserv_pushing_frame *frame = (struct chanserv_pushing_frame *)malloc(sizeof *frame + size);
    if (frame == NULL) {
        return CHANSERV_ERROR_INTERNAL;
    }
    frame->next = NULL;
    frame->size = size;
    frame->bytes = frame + 1;
    frame->release = NULL;
    frame->context = NULL;
    if (size > 0) {
        memcpy(frame + 1, data, size);
    }
    chanserv_status status = chanserv_pushing_add_frame(source, frame);
    if (status != CHANSERV_READY) {
        free(frame);
    }
    return status;
}

static inline chanserv_status chanserv_push_lent(chanserv_source *source, const void *data, size_t size,
                                                 void (*release)(void *context), void *context) {
    if (size > CHANSERV_FRAME_SIZE_MAX) {
        return CHANSERV_ERROR_TOO_LARGE;
    }
    if (release == NULL) {
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    struct chanserv_pushing_frame *frame = (struct chanserv_pushing_frame *)malloc(sizeof *frame);
    if (frame == NULL) {
        return CHANSERV_ERROR_INTERNAL;
    }
    frame->next = NULL;
    frame->size = size;
    frame->bytes = data;
    frame->release = release;
    frame->context = context;
    chanserv_status status = chanserv_pushing_add_frame(source, frame);
    if (status != CHANSERV_READY) {
        free(frame);
    }
    return status;
}

static inline void chanserv_push_end(chanserv_source *source) {
    chanserv_pushing_end_source(source, CHANSERV_END, NULL);
}

static inline void chanserv_push_fail(chanserv_source *source, chanserv_status status, const char *message) {
    chanserv_pushing_end_source(source, status < 0 ? status : CHANSERV_ERROR_INTERNAL, message);
}

static inline int chanserv_push_is_cancelled(chanserv_pusher *pusher) {
    pthread_mutex_lock(&pusher->lock);
    int is_cancelled = pusher->side.is_cancelled;
    pthread_mutex_unlock(&pusher->lock);
    return is_cancelled;
}

static inline int chanserv_push_source_is_cancelled(chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    int is_cancelled = source->side.is_cancelled;
    pthread_mutex_unlock(&source->lock);
    return is_cancelled;
}

static inline void chanserv_push_on_cancel(chanserv_pusher *pusher, chanserv_on_cancel *function, void *argument) {
    pthread_mutex_lock(&pusher->lock);
    chanserv_pushing_on_cancel(&pusher->side, function, argument);
    pthread_mutex_unlock(&pusher->lock);
}

static inline void chanserv_push_source_on_cancel(chanserv_source *source, chanserv_on_cancel *function,
                                                  void *argument) {
    pthread_mutex_lock(&source->lock);
    chanserv_pushing_on_cancel(&source->side, function, argument);
    pthread_mutex_unlock(&source->lock);
}

/* ---- The host: functions of the descriptor ---- */

/*
 * Returns a request with all fields of this header. Fields that a host of version 1.0 does not provide have the values
 * of a request in which the client did not set them.
 */
static inline chanserv_request chanserv_pushing_full(const chanserv_request *request) {
    chanserv_request full;
    memset(&full, 0, sizeof full);
    full.deadline = -1;
    full.peer_address = "";
    full.identity = "";
    memcpy(&full, request, request->struct_size < sizeof full ? request->struct_size : sizeof full);
    full.struct_size = sizeof full;
    return full;
}

static inline chanserv_status chanserv_pushing_open(chanserv_instance *instance, const chanserv_request *request,
                                                    chanserv_call **result, chanserv_error *error) {
    const char *message = "out of memory";
    chanserv_request copy = chanserv_pushing_full(request);
    const char **texts[] = {&copy.vaddr, &copy.remote_address, &copy.meta,    &copy.bucket,
                            &copy.traceparent, &copy.peer_address, &copy.identity};
    size_t count = sizeof texts / sizeof *texts, size = request->body_size;
    for (size_t i = 0; i < count; i++) {
        size += *texts[i] != NULL ? strlen(*texts[i]) + 1 : 0;
    }
    struct chanserv_call *call = (struct chanserv_call *)calloc(1, sizeof *call + size);
    chanserv_status status = CHANSERV_ERROR_INTERNAL;
    if (call == NULL || pthread_mutex_init(&call->lock, NULL) != 0) {
        goto failed;
    }
    if (pthread_cond_init(&call->room, NULL) != 0) {
        pthread_mutex_destroy(&call->lock);
        goto failed;
    }
    call->instance = instance;
    call->producers = (chanserv_producers *)(void *)instance;
    call->side.references = 2;
    call->has_thread = 1;
    {
        char *place = (char *)(call + 1);
        copy.body = memcpy(place, request->body, request->body_size);
        place += request->body_size;
        for (size_t i = 0; i < count; i++) {
            if (*texts[i] != NULL) {
                size_t text_size = strlen(*texts[i]) + 1;
                *texts[i] = (const char *)memcpy(place, *texts[i], text_size);
                place += text_size;
            }
        }
        call->request = copy;
    }
    status = chanserv_pushing_start_thread(call->producers, 1, chanserv_pushing_run_call, call, &message);
    if (status == CHANSERV_READY) {
        *result = call;
        return CHANSERV_READY;
    }
    pthread_cond_destroy(&call->room);
    pthread_mutex_destroy(&call->lock);

failed:
    free(call);
    if (error->capacity > strlen(message)) {
        strcpy(error->message, message);
    }
    return status;
}

/* Cancels a source and wakes the threads that push to it. */
static inline void chanserv_pushing_stop_source(chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    chanserv_pushing_cancel(&source->side);
    pthread_cond_broadcast(&source->room);
    chanserv_pushing_wake(source->call->producers, &source->side);
    pthread_mutex_unlock(&source->lock);
}

static inline chanserv_status chanserv_pushing_poll_sources(chanserv_call *call, chanserv_source_sink *sink,
                                                            chanserv_error *error) {
    chanserv_status status = CHANSERV_READY;
    pthread_mutex_lock(&call->lock);
    while (call->first != NULL && !call->side.is_cancelled) {
        struct chanserv_source *source = call->first;
        call->first = source->next; /* still counted in `sources` */
        /* Without the lock, because the host may poll the source at once on another thread. */
        pthread_mutex_unlock(&call->lock);
        status = sink->add(sink, source + 1, source->header_size, source);
        pthread_mutex_lock(&call->lock);
        if (status != CHANSERV_READY) {
            source->next = call->first;
            call->last = call->first != NULL ? call->last : source;
            call->first = source;
            if (call->side.is_cancelled) { /* cancelled while it was not in the list */
                chanserv_pushing_stop_source(source);
            }
            break;
        }
        call->sources--;
        pthread_cond_broadcast(&call->room);
    }
    if (status == CHANSERV_READY) {
        status = chanserv_pushing_answer(&call->side, sink->wake, error);
    } else if (status == CHANSERV_FULL) {
        status = CHANSERV_READY;
    }
    pthread_mutex_unlock(&call->lock);
    return status;
}

static inline void chanserv_pushing_cancel_call(chanserv_call *call) {
    pthread_mutex_lock(&call->lock);
    chanserv_pushing_cancel(&call->side);
    pthread_cond_broadcast(&call->room);
    for (struct chanserv_source *source = call->first; source != NULL; source = source->next) {
        chanserv_pushing_stop_source(source); /* the host does not know these, so it cannot cancel them */
    }
    chanserv_pushing_wake(call->producers, &call->side);
    pthread_mutex_unlock(&call->lock);
}

static inline void chanserv_pushing_cancel_source(chanserv_source *source) {
    chanserv_pushing_stop_source(source);
}

/* Passes a frame to the host. CHANSERV_READY: it was taken, and its struct may already be freed. */
static inline chanserv_status chanserv_pushing_offer(struct chanserv_pushing_frame *frame,
                                                     chanserv_frame_sink *sink) {
    int lends = CHANSERV_HAS(sink, chanserv_frame_sink, lend);
    if (frame->release == NULL && lends && frame->size >= CHANSERV_PUSHING_LENT_MIN) {
        return sink->lend(sink, frame->bytes, frame->size, free, frame);
    }
    chanserv_status status = frame->release != NULL && lends
                                 ? sink->lend(sink, frame->bytes, frame->size, frame->release, frame->context)
                                 : sink->append(sink, frame->bytes, frame->size);
    if (status != CHANSERV_READY) {
        return status;
    }
    if (frame->release != NULL && !lends) {
        frame->release(frame->context);
    }
    free(frame);
    return CHANSERV_READY;
}

static inline chanserv_status chanserv_pushing_poll_frames(chanserv_source *source, chanserv_frame_sink *sink,
                                                           chanserv_error *error) {
    for (;;) {
        while (source->taken != NULL) {
            struct chanserv_pushing_frame *next = source->taken->next;
            chanserv_status status = chanserv_pushing_offer(source->taken, sink);
            if (status != CHANSERV_READY) {
                return status == CHANSERV_FULL ? CHANSERV_READY : status;
            }
            source->taken = next;
        }
        pthread_mutex_lock(&source->lock);
        source->taken = source->first;
        source->first = NULL;
        source->frames = 0;
        source->bytes = 0;
        if (source->taken == NULL || source->side.is_cancelled) {
            chanserv_status status = chanserv_pushing_answer(&source->side, sink->wake, error);
            pthread_mutex_unlock(&source->lock);
            return status;
        }
        pthread_cond_broadcast(&source->room);
        pthread_mutex_unlock(&source->lock);
    }
}

static inline void chanserv_pushing_close_source(chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    source->side.is_waited_for = 0;
    chanserv_pushing_cancel(&source->side);
    pthread_cond_broadcast(&source->room);
    pthread_mutex_unlock(&source->lock);
    chanserv_pushing_free_frames(source->taken);
    source->taken = NULL;
    chanserv_pushing_release_source(source);
}

static inline void chanserv_pushing_close_call(chanserv_call *call) {
    pthread_mutex_lock(&call->lock);
    call->side.is_waited_for = 0;
    chanserv_pushing_cancel(&call->side);
    pthread_cond_broadcast(&call->room);
    struct chanserv_source *source = call->first;
    call->first = NULL;
    call->sources = 0;
    pthread_mutex_unlock(&call->lock);
    while (source != NULL) { /* the host does not know these */
        struct chanserv_source *next = source->next;
        chanserv_pushing_close_source(source);
        source = next;
    }
    chanserv_pushing_release_call(call);
}

#ifdef __cplusplus
}
#endif

#endif /* CHANSERV_PUSH_H */
