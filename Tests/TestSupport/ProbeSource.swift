/// A plugin in C that runs the command of the request and counts violations of the rules of chanserv_plugin.h.
///
/// The request is `COMMAND NUMBER`. The request `stats` has one frame `key=value …`. The plugin frees no object, so
/// that a call on a closed object is counted and does not crash.
package let probeSource = #"""
    #define _GNU_SOURCE
    #include <pthread.h>
    #include <stdatomic.h>
    #include <stdbool.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    #include "chanserv_plugin.h"

    #ifndef FLAGS
    #define FLAGS 0
    #endif
    #ifndef VERSION
    #define VERSION "1"
    #endif

    struct chanserv_instance { const chanserv_host *host; char report[2048]; char hangs_in[16]; char keys[256]; };
    struct chanserv_call {
        chanserv_instance *instance; char command[32]; long number;
        atomic_int polling, cancels, closed, open_sources; long added; char context[400];
    };
    struct chanserv_source {
        chanserv_call *call; long index, next; uint64_t wake;
        atomic_int polling, cancels, closed, polls;
        pthread_mutex_t mutex; pthread_cond_t condition; bool released, threaded, given;
    };

    static atomic_int opens, closes, source_closes, violations, call_cancels, source_cancels, late_wakes, inside, overlaps;
    static atomic_int destroys, blocked, barrier, stops;
    static pthread_mutex_t global_mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t global_condition = PTHREAD_COND_INITIALIZER;
    static bool global_release;
    static atomic_int releases_after_destroy;
    static _Atomic uint64_t sleeper;
    static char cancel_thread[16];
    #if CHANSERV_ABI_MINOR >= 1
    static atomic_int lends, releases, early_releases;
    static _Thread_local bool is_lending;
    #endif

    static void enter(void) { if (atomic_fetch_add(&inside, 1) > 0) overlaps++; }
    static void leave(void) { inside--; }

    static void hang(const chanserv_host *host) {
        host->log(host, CHANSERV_LOG_INFO, "blocked", 7);
        pthread_mutex_lock(&global_mutex);
        while (!global_release) pthread_cond_wait(&global_condition, &global_mutex);
        pthread_mutex_unlock(&global_mutex);
    }

    static chanserv_status create(const chanserv_host *host, const chanserv_config *config, chanserv_instance **instance,
                                  chanserv_error *error) {
        enter();
        chanserv_instance *self = calloc(1, sizeof *self);
        self->host = host;
        const char *text = "unset", *path = "unset", *json; size_t size, json_size;
        int64_t integer = -1, duration = -1; double number = -1; int32_t boolean = -1; uint64_t bytes = 0; size_t count = 0;
        const char *known[] = {"fail", "text", "integer", "number", "boolean", "duration", "size", "list", "path",
                               "hang", "map"};
        chanserv_status status = host->config_only(host, config, known, 11, error);
        if (status == CHANSERV_READY) status = host->config_string(host, config, "text", &text, &size, error);
        if (status >= 0 || status == CHANSERV_ERROR_NOT_FOUND) status = host->config_integer(host, config, "integer", &integer, error);
        if (status >= 0 || status == CHANSERV_ERROR_NOT_FOUND) {
            host->config_number(host, config, "number", &number, NULL);
            host->config_boolean(host, config, "boolean", &boolean, NULL);
            host->config_duration(host, config, "duration", &duration, NULL);
            host->config_size(host, config, "size", &bytes, NULL);
            host->config_count(host, config, "list", &count, NULL);
            host->config_path(host, config, "path", &path, &size, NULL);
            host->config_json(host, config, &json, &json_size);
            snprintf(self->report, sizeof self->report, "%s|%lld|%g|%d|%lld|%llu|%zu|%s|%s", text, (long long)integer, number,
                     boolean, (long long)duration, (unsigned long long)bytes, count, path, json);
    #if CHANSERV_ABI_MINOR >= 1
            const char *paths[] = {"", "map", "map.none", "text"};
            for (int i = 0; i < 4; i++) {
                const char *const *keys = NULL; size_t keys_count = 77; char message[100] = "";
                chanserv_error keys_error = {message, sizeof message};
                chanserv_status found = host->config_keys(host, config, paths[i], &keys, &keys_count, &keys_error);
                size_t at = strlen(self->keys);
                at += (size_t)snprintf(self->keys + at, sizeof self->keys - at, "%s%d", i > 0 ? "|" : "", found);
                for (size_t j = 0; found == CHANSERV_READY && j < keys_count; j++)
                    at += (size_t)snprintf(self->keys + at, sizeof self->keys - at, " %s", keys[j]);
            }
    #endif
            const char *fail = NULL, *hangs_in;
            if (host->config_string(host, config, "hang", &hangs_in, &size, NULL) == CHANSERV_READY) {
                snprintf(self->hangs_in, sizeof self->hangs_in, "%s", hangs_in);
                if (strcmp(hangs_in, "create") == 0) hang(host);
            }
            status = CHANSERV_READY;
            if (host->config_string(host, config, "fail", &fail, &size, NULL) == CHANSERV_READY) {
                snprintf(error->message, error->capacity, "told to fail: %s", fail);
                status = CHANSERV_ERROR_BUSY;
            }
        }
        host->log(host, CHANSERV_LOG_WARNING, "created", 7);
        *instance = self;
        leave();
        return status;
    }
    static void destroy(chanserv_instance *instance) {
        enter();
        if (opens != closes) violations++;
        destroys++;
        if (strcmp(instance->hangs_in, "destroy") == 0) hang(instance->host);
        instance->host->log(instance->host, CHANSERV_LOG_ERROR, "destroyed", 9);
        leave();
    }

    static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                     chanserv_error *error) {
        enter();
        chanserv_call *self = calloc(1, sizeof *self);
        self->instance = instance;
        char text[64] = "";
        memcpy(text, request->body, request->body_size < 63 ? request->body_size : 63);
        sscanf(text, "%31s %ld", self->command, &self->number);
        if (strcmp(self->command, "refuse") == 0) {
            snprintf(error->message, error->capacity, "refused %s from %s", request->vaddr, request->remote_address);
            leave();
            return (chanserv_status)self->number;
        }
        if (strcmp(self->command, "release") == 0) {
            pthread_mutex_lock(&global_mutex);
            global_release = true;
            pthread_cond_broadcast(&global_condition);
            pthread_mutex_unlock(&global_mutex);
        }
    #if CHANSERV_ABI_MINOR >= 1
        const char *known_or[] = {request->meta, request->bucket, request->traceparent};
        for (int i = 0; i < 3; i++) if (known_or[i] == NULL) known_or[i] = "NULL";
        snprintf(self->context, sizeof self->context, "%u %s %s|%s|%s|%s|%s|%s|%u", request->struct_size,
                 request->deadline < 0 ? "none" : request->deadline == 0 ? "over"
                 : request->deadline <= 3600000000000 ? "soon" : "late",
                 known_or[0], known_or[1], known_or[2], request->peer_address, request->identity, request->vaddr,
                 request->flags);
    #endif
        opens++;
        *call = self;
        leave();
        return CHANSERV_READY;
    }

    static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
        enter();
        if (atomic_fetch_add(&call->polling, 1) > 0 || call->closed) violations++;
        chanserv_status status = CHANSERV_END;
        long count = strcmp(call->command, "sources") == 0 || strcmp(call->command, "barrier") == 0 ? call->number : 1;
        if (strcmp(call->command, "nothing") == 0) count = 0;
        if (strcmp(call->command, "sourceless") == 0) { status = CHANSERV_PENDING; count = 0; }
        while (call->added < count) {
            chanserv_source *source = calloc(1, sizeof *source);
            source->call = call;
            source->index = call->added;
            pthread_mutex_init(&source->mutex, NULL);
            pthread_cond_init(&source->condition, NULL);
            char header[32];
            int size = snprintf(header, sizeof header, "source %ld", call->added);
            call->open_sources++;
            chanserv_status taken = sink->add(sink, header, (size_t)size, source);
            if (taken != CHANSERV_READY) {
                call->open_sources--;
                free(source);
                status = CHANSERV_READY;
                break;
            }
            call->added++;
        }
        if (strcmp(call->command, "failsources") == 0) {
            snprintf(error->message, error->capacity, "no more sources");
            status = (chanserv_status)call->number;
        }
        call->polling--;
        leave();
        return status;
    }
    static void cancel_call(chanserv_call *call) {
        enter();
        call_cancels++;
        if (call->closed || atomic_fetch_add(&call->cancels, 1) > 0) violations++;
        leave();
    }
    static void close_call(chanserv_call *call) {
        enter();
        if (call->polling || call->open_sources > 0 || atomic_fetch_add(&call->closed, 1) > 0) violations++;
        closes++;
        leave();
    }

    struct waker { chanserv_source *source; uint64_t handle; long times; };
    static void *wake_now(void *argument) {
        struct waker *waker = argument;
        const chanserv_host *host = waker->source->call->instance->host;
        for (long i = 0; i < waker->times; i++) host->wake(host, waker->handle);
        free(waker);
        return NULL;
    }
    static void *wake_late(void *argument) {
        struct waker *waker = argument;
        chanserv_source *source = waker->source;
        pthread_mutex_lock(&source->mutex);
        while (!source->released) pthread_cond_wait(&source->condition, &source->mutex);
        pthread_mutex_unlock(&source->mutex);
        const chanserv_host *host = source->call->instance->host;
        for (long i = 0; i < waker->times; i++) host->wake(host, waker->handle);
        late_wakes++;
        host->log(host, CHANSERV_LOG_INFO, "woken late", 10);
        free(waker);
        return NULL;
    }
    static void spawn(void *(*function)(void *), chanserv_source *source, uint64_t handle, long times) {
        struct waker *waker = malloc(sizeof *waker);
        *waker = (struct waker){source, handle, times};
        pthread_t thread;
        pthread_create(&thread, NULL, function, waker);
        pthread_detach(thread);
    }

    static chanserv_status text_frame(chanserv_frame_sink *sink, const char *text) {
        return sink->append(sink, text, strlen(text));
    }

    #if CHANSERV_ABI_MINOR >= 1
    struct lent { size_t size; unsigned char bytes[]; };
    static void release_lent(void *context) {
        struct lent *lent = context;
        if (is_lending) early_releases++;
        if (destroys > 0) releases_after_destroy++;
        releases++;
        memset(lent->bytes, 0xDD, lent->size); /* a host that still reads the memory gets these bytes */
        free(lent);
    }
    static chanserv_status lend(chanserv_frame_sink *sink, size_t size, const char *start) {
        struct lent *lent = malloc(sizeof *lent + size);
        lent->size = size;
        for (size_t i = 0; i < size; i++) lent->bytes[i] = (unsigned char)(i * 31 >> 3);
        memcpy(lent->bytes, start, strlen(start) < size ? strlen(start) : size);
        is_lending = true;
        chanserv_status status = sink->lend(sink, lent->bytes, size, release_lent, lent);
        is_lending = false;
        if (status == CHANSERV_READY) lends++; else free(lent);
        return status;
    }
    #endif

    static chanserv_status answer(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
        chanserv_call *call = source->call;
        const char *command = call->command;
        const chanserv_host *host = call->instance->host;
        long number = call->number;
        char text[512];
        if (source->wake != 0 && source->wake != sink->wake) violations++;
        source->wake = sink->wake;

        if (strcmp(command, "frames") == 0) {
            while (source->next < number) {
                snprintf(text, sizeof text, "%ld", source->next);
                chanserv_status status = text_frame(sink, text);
                if (status == CHANSERV_FULL) return CHANSERV_READY;
                if (status != CHANSERV_READY) { violations++; return CHANSERV_ERROR_INTERNAL; }
                source->next++;
            }
            return CHANSERV_END;
        }
        if (strcmp(command, "onebyone") == 0) {
            if (source->next == number) return CHANSERV_END;
            snprintf(text, sizeof text, "%ld", source->next);
            if (text_frame(sink, text) == CHANSERV_READY) source->next++;
            return CHANSERV_READY;
        }
        if (strcmp(command, "blob") == 0) {
            unsigned char *data = malloc((size_t)number + 1);
            for (long i = 0; i < number; i++) data[i] = (unsigned char)(i * 31 >> 3);
            chanserv_status status = sink->append(sink, data, (size_t)number);
            free(data);
            if (status == CHANSERV_FULL) return CHANSERV_READY;
            if (status == CHANSERV_READY) return CHANSERV_END;
            snprintf(error->message, error->capacity, "append said %d", status);
            return status;
        }
        if (strcmp(command, "behind") == 0) {
            /* A small frame, and a large one for which the batch has no room then. */
            if (source->next == 0) { source->next = 1; text_frame(sink, "small"); }
            unsigned char *data = calloc(1, (size_t)number + 1);
            chanserv_status status = sink->append(sink, data, (size_t)number);
            free(data);
            if (status == CHANSERV_FULL) { stops++; return CHANSERV_READY; }
            return status == CHANSERV_READY ? CHANSERV_END : status;
        }
        if (strcmp(command, "reserve") == 0) {
            size_t capacity = 0, written = 0, minimum = 1;
            while (true) {
                unsigned char *room = sink->reserve(sink, minimum, &capacity);
                if (room == NULL || capacity < minimum) return CHANSERV_ERROR_INTERNAL;
                size_t end = minimum < (size_t)number ? minimum : (size_t)number;
                for (; written < end; written++) room[written] = (unsigned char)(written * 31 >> 3);
                if (written == (size_t)number) break;
                minimum = minimum * 2 + 1;
            }
            return sink->commit(sink, written) == CHANSERV_READY ? CHANSERV_END : CHANSERV_ERROR_INTERNAL;
        }
    #if CHANSERV_ABI_MINOR >= 1
        if (strcmp(command, "lend") == 0 || strcmp(command, "lendmarked") == 0) {
            /* A small frame, five lent ones of the requested size, and a small one. */
            if (source->next == 0) { text_frame(sink, "first"); source->next = 1; }
            while (source->next <= 5) {
                chanserv_status status = lend(sink, (size_t)number, command[4] != 0 ? "lz4!" : "");
                if (status == CHANSERV_FULL) { stops++; return CHANSERV_READY; }
                if (status != CHANSERV_READY) return status;
                source->next++;
            }
            return text_frame(sink, "last") == CHANSERV_READY ? CHANSERV_END : CHANSERV_READY;
        }
        if (strcmp(command, "badlend") == 0) {
            chanserv_status answers[] = {
                sink->lend(sink, text, CHANSERV_FRAME_SIZE_MAX + 1, release_lent, NULL),
                sink->lend(sink, NULL, 10000, release_lent, NULL), sink->lend(sink, text, 10, NULL, NULL),
                sink->lend(NULL, text, 10, release_lent, NULL),
            };
            snprintf(text, sizeof text, "%d %d %d %d", answers[0], answers[1], answers[2], answers[3]);
            text_frame(sink, text);
            return CHANSERV_END;
        }
        if (strcmp(command, "lends") == 0) {
            snprintf(text, sizeof text, "lends=%d releases=%d early=%d", lends, releases, early_releases);
            text_frame(sink, text);
            return CHANSERV_END;
        }
        if (strcmp(command, "keys") == 0) { text_frame(sink, call->instance->keys); return CHANSERV_END; }
        if (strcmp(command, "context") == 0) { text_frame(sink, call->context); return CHANSERV_END; }
    #endif
        if (strcmp(command, "uncommitted") == 0) {
            size_t capacity;
            if (source->next++ > 0) return text_frame(sink, "second") == CHANSERV_READY ? CHANSERV_END : CHANSERV_READY;
            text_frame(sink, "first");
            void *room = sink->reserve(sink, 100, &capacity);
            if (room != NULL) memset(room, 'x', capacity);
            return CHANSERV_READY;
        }
        if (strcmp(command, "toolarge") == 0) {
            size_t capacity;
            bool refused = sink->append(sink, text, CHANSERV_FRAME_SIZE_MAX + 1) == CHANSERV_ERROR_TOO_LARGE
                && sink->reserve(sink, CHANSERV_FRAME_SIZE_MAX + 1, &capacity) == NULL
                && sink->commit(sink, 1) < 0;
            text_frame(sink, refused ? "refused" : "taken");
            return CHANSERV_END;
        }
        if (strcmp(command, "overcommit") == 0) {
            size_t capacity;
            sink->reserve(sink, 10, &capacity);
            text_frame(sink, sink->commit(sink, capacity + 1) < 0 ? "refused" : "taken");
            return CHANSERV_END;
        }
        if (strcmp(command, "never") == 0) {
            host->log(host, CHANSERV_LOG_INFO, "pending", 7);
            return CHANSERV_PENDING;
        }
        if (strcmp(command, "wakes") == 0) {
            /* Every second poll returns PENDING. Another thread wakes the source. */
            if (source->next == number) return CHANSERV_END;
            if (!source->given) { source->given = true; spawn(wake_now, source, sink->wake, 1); return CHANSERV_PENDING; }
            source->given = false;
            snprintf(text, sizeof text, "%ld", source->next++);
            text_frame(sink, text);
            return CHANSERV_READY;
        }
        if (strcmp(command, "inside") == 0) {
            /* Like wakes, but the wake comes before the poll returns. */
            if (source->next == number) return CHANSERV_END;
            if (!source->given) { source->given = true; host->wake(host, sink->wake); return CHANSERV_PENDING; }
            source->given = false;
            snprintf(text, sizeof text, "%ld", source->next++);
            text_frame(sink, text);
            host->wake(host, sink->wake);
            return CHANSERV_PENDING;
        }
        if (strcmp(command, "storm") == 0) {
            /* Other threads wake all the time, with this handle and with handles that were never issued. */
            if (!source->threaded) {
                source->threaded = true;
                spawn(wake_now, source, sink->wake, 100000);
                spawn(wake_now, source, sink->wake ^ 0x5555000000005555u, 100000);
                spawn(wake_now, source, 0, 1000);
            }
            if (source->next == number) return CHANSERV_END;
            snprintf(text, sizeof text, "%ld", source->next++);
            text_frame(sink, text);
            host->wake(host, sink->wake);
            return CHANSERV_PENDING;
        }
        if (strcmp(command, "sleeper") == 0) {
            /* Waits for a wake from the poll of another source. */
            if (source->next++ == 0) {
                sleeper = sink->wake;
                host->log(host, CHANSERV_LOG_INFO, "sleeping", 8);
                return CHANSERV_PENDING;
            }
            text_frame(sink, "woken");
            return CHANSERV_END;
        }
        if (strcmp(command, "waker") == 0) {
            /* Wakes the sleeper while this source is polled. */
            for (long i = 0; i < 100; i++) host->wake(host, sleeper);
            text_frame(sink, "wakes");
            return CHANSERV_END;
        }
        if (strcmp(command, "wokenthread") == 0) {
            if (source->next++ == 0) { spawn(wake_now, source, sink->wake, 1); return CHANSERV_PENDING; }
            char name[16] = "";
            pthread_getname_np(pthread_self(), name, sizeof name);
            text_frame(sink, name);
            return CHANSERV_END;
        }
        if (strcmp(command, "slow") == 0) {
            /* Computes for the requested number of microseconds. */
            struct timespec start, now;
            clock_gettime(CLOCK_MONOTONIC, &start);
            do clock_gettime(CLOCK_MONOTONIC, &now);
            while ((now.tv_sec - start.tv_sec) * 1000000L + (now.tv_nsec - start.tv_nsec) / 1000 < number);
            return CHANSERV_END;
        }
        if (strcmp(command, "cancelthread") == 0) { text_frame(sink, cancel_thread); return CHANSERV_END; }
        if (strcmp(command, "late") == 0) {
            spawn(wake_late, source, sink->wake, 1000);
            text_frame(sink, "only");
            return CHANSERV_END;
        }
        if (strcmp(command, "pendingwithframe") == 0) {
            if (source->next++ == 0) { text_frame(sink, "early"); spawn(wake_now, source, sink->wake, 1); return CHANSERV_PENDING; }
            text_frame(sink, "late");
            return CHANSERV_END;
        }
        if (strcmp(command, "frameandnever") == 0) {
            if (source->next++ == 0) text_frame(sink, "early");
            return CHANSERV_PENDING;
        }
        if (strcmp(command, "status") == 0) {
            text_frame(sink, "before");
            snprintf(error->message, error->capacity, "told to answer %ld", number);
            return (chanserv_status)number;
        }
        if (strcmp(command, "spin") == 0) return source->next++ < number ? CHANSERV_READY : CHANSERV_END;
        if (strcmp(command, "block") == 0) {
            blocked++;
            host->log(host, CHANSERV_LOG_INFO, "blocked", 7);
            pthread_mutex_lock(&source->mutex);
            while (!source->released) pthread_cond_wait(&source->condition, &source->mutex);
            pthread_mutex_unlock(&source->mutex);
            return CHANSERV_END;
        }
        if (strcmp(command, "hang") == 0) {
            blocked++;
            hang(host);
            return CHANSERV_END;
        }
        if (strcmp(command, "barrier") == 0) {
            /* Ends when the polls of all sources run at the same time. */
            pthread_mutex_lock(&global_mutex);
            barrier++;
            pthread_cond_broadcast(&global_condition);
            while (barrier < number) pthread_cond_wait(&global_condition, &global_mutex);
            pthread_mutex_unlock(&global_mutex);
            return CHANSERV_END;
        }
        if (strcmp(command, "sources") == 0) {
            snprintf(text, sizeof text, "frame of %ld", source->index);
            text_frame(sink, text);
            return CHANSERV_END;
        }
        if (strcmp(command, "thread") == 0) {
            char name[16] = "";
            pthread_getname_np(pthread_self(), name, sizeof name);
            text_frame(sink, name);
            return CHANSERV_END;
        }
        if (strcmp(command, "report") == 0) { text_frame(sink, call->instance->report); return CHANSERV_END; }
        if (strcmp(command, "version") == 0) { text_frame(sink, VERSION); return CHANSERV_END; }
        if (strcmp(command, "stats") == 0) {
            snprintf(text, sizeof text,
                     "opens=%d closes=%d source_closes=%d violations=%d call_cancels=%d source_cancels=%d late_wakes=%d "
                     "overlaps=%d destroys=%d blocked=%d stops=%d late_releases=%d",
                     opens, closes, source_closes, violations, call_cancels, source_cancels, late_wakes, overlaps, destroys,
                     blocked, stops, releases_after_destroy);
            text_frame(sink, text);
        }
        return CHANSERV_END;
    }

    static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
        enter();
        if (atomic_fetch_add(&source->polling, 1) > 0 || source->closed) violations++;
        chanserv_status status = answer(source, sink, error);
        source->polling--;
        leave();
        return status;
    }
    static void cancel_source(chanserv_source *source) {
        enter();
        source_cancels++;
        pthread_getname_np(pthread_self(), cancel_thread, sizeof cancel_thread);
        if (source->closed || atomic_fetch_add(&source->cancels, 1) > 0) violations++;
        if (strcmp(source->call->instance->hangs_in, "cancel") == 0) hang(source->call->instance->host);
        pthread_mutex_lock(&source->mutex);
        source->released = true;
        pthread_cond_broadcast(&source->condition);
        pthread_mutex_unlock(&source->mutex);
        leave();
    }
    static void close_source(chanserv_source *source) {
        enter();
        if (source->polling || atomic_fetch_add(&source->closed, 1) > 0) violations++;
        source->call->open_sources--;
        source_closes++;
        pthread_mutex_lock(&source->mutex);
        source->released = true;
        pthread_cond_broadcast(&source->condition);
        pthread_mutex_unlock(&source->mutex);
        leave();
    }

    static const chanserv_plugin plugin = {
        CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), FLAGS, "probe", VERSION,
        create, destroy, open_call, poll_sources, cancel_call, close_call, poll_frames, cancel_source, close_source,
    };
    CHANSERV_EXPORT const chanserv_plugin *CHANSERV_ENTRY(void) { return &plugin; }
    """#
