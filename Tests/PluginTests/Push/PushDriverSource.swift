/// A program that is a host with many threads for the plugin of ``pushSource``. Both are compiled together, so that
/// sanitizers check all of it. It opens, polls, cancels and closes requests at every point. It exits with 0 if all
/// frames were right.
let pushDriverSource =
    pushSource + #"""


        #include <stdatomic.h>
        #include <stdint.h>
        #include <unistd.h>

        #define HANDLES 200000

        static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
        static pthread_cond_t wake_changed = PTHREAD_COND_INITIALIZER;
        static unsigned char is_woken[HANDLES];
        static atomic_int handles, failures, sources, frames;

        static void wake(const chanserv_host *host, uint64_t handle) {
            (void)host;
            pthread_mutex_lock(&wake_lock);
            is_woken[handle] = 1;
            pthread_cond_broadcast(&wake_changed);
            pthread_mutex_unlock(&wake_lock);
        }

        static void wait_for(uint64_t handle) {
            pthread_mutex_lock(&wake_lock);
            while (!is_woken[handle]) {
                pthread_cond_wait(&wake_changed, &wake_lock);
            }
            is_woken[handle] = 0;
            pthread_mutex_unlock(&wake_lock);
        }

        static void no_log(const chanserv_host *host, int32_t level, const char *message, size_t size) {
            (void)host, (void)level, (void)message, (void)size;
        }

        static chanserv_status integer(const chanserv_host *host, const chanserv_config *config, const char *path,
                                       int64_t *value, chanserv_error *error) {
            (void)host, (void)config, (void)error;
            if (strcmp(path, "frames") != 0) return CHANSERV_ERROR_NOT_FOUND;
            *value = 3;
            return CHANSERV_READY;
        }

        static void fail(const char *what) {
            fprintf(stderr, "failed: %s\n", what);
            atomic_fetch_add(&failures, 1);
        }

        /* ---- One source, read on its own thread. Cancelled after `stop` frames, unless `stop` is negative ---- */

        struct reading {
            chanserv_frame_sink sink; /* must be first */
            chanserv_source *source;
            int room, next, stop;
            pthread_t thread;
            /* Lent frames, released when the source is closed. */
            struct lease { void (*release)(void *context); void *context; const char *data; size_t size; } leases[64];
            int lease_count;
        };

        static chanserv_status append(chanserv_frame_sink *sink, const void *data, size_t size) {
            struct reading *reading = (struct reading *)sink;
            char text[32];
            if (reading->room-- <= 0) return CHANSERV_FULL;
            snprintf(text, sizeof text, "%.*s", (int)(size < 20 ? size : 20), (const char *)data);
            if (text[0] < 'a' && atoi(text) != reading->next) fail("a frame is not the next one");
            if (text[0] >= 'a' && text[0] != 'a' + reading->next % 26) fail("a lent frame is not the next one");
            reading->next++;
            atomic_fetch_add(&frames, 1);
            return CHANSERV_READY;
        }

        static chanserv_status lend(chanserv_frame_sink *sink, const void *data, size_t size,
                                    void (*release)(void *context), void *context) {
            struct reading *reading = (struct reading *)sink;
            chanserv_status status = append(sink, data, size);
            if (status != CHANSERV_READY) return status;
            if (reading->lease_count == 64) {
                release(context); /* at once */
            } else {
                reading->leases[reading->lease_count++] = (struct lease){release, context, (const char *)data, size};
            }
            return CHANSERV_READY;
        }

        static void *cancel_source_later(void *argument) {
            plugin.cancel_source((chanserv_source *)argument);
            return NULL;
        }

        static void *read_source(void *argument) {
            struct reading *reading = (struct reading *)argument;
            char message[64];
            chanserv_error error = {message, sizeof message};
            pthread_t canceller;
            int is_cancelled = 0;
            for (;;) {
                reading->room = 2;
                chanserv_status status = plugin.poll_frames(reading->source, &reading->sink, &error);
                if (status < 0 || status == CHANSERV_END) break;
                if (reading->stop >= 0 && reading->next >= reading->stop) {
                    if (reading->stop % 2 == 0) break; /* closed without a cancel */
                    if (!is_cancelled) {
                        is_cancelled = 1;
                        pthread_create(&canceller, NULL, cancel_source_later, reading->source);
                    }
                }
                if (status == CHANSERV_PENDING) wait_for(reading->sink.wake);
            }
            if (is_cancelled) pthread_join(canceller, NULL);
            plugin.close_source(reading->source);
            for (int i = 0; i < reading->lease_count; i++) {
                struct lease *lease = &reading->leases[i];
                /* Reads the whole frame, so that a sanitizer detects freed memory and concurrent writes. */
                if (memchr(lease->data, 'Z', lease->size) != NULL) fail("a lent frame has changed");
                lease->release(lease->context);
            }
            return NULL;
        }

        /* ---- One request after the other, on each of several threads ---- */

        struct calling {
            chanserv_source_sink sink; /* must be first */
            struct reading readings[16];
            int count, room, stop;
        };

        static chanserv_status add(chanserv_source_sink *sink, const void *header, size_t size, chanserv_source *source) {
            struct calling *calling = (struct calling *)sink;
            (void)header, (void)size;
            if (calling->room-- <= 0) return CHANSERV_FULL;
            struct reading *reading = &calling->readings[calling->count++];
            memset(reading, 0, sizeof *reading);
            reading->sink.wake = (uint64_t)atomic_fetch_add(&handles, 1);
            reading->sink.struct_size = sizeof reading->sink;
            reading->sink.append = append;
            reading->sink.lend = lend;
            reading->source = source;
            reading->stop = calling->stop;
            atomic_fetch_add(&sources, 1);
            pthread_create(&reading->thread, NULL, read_source, reading);
            return CHANSERV_READY;
        }

        static void *serve(void *argument) {
            chanserv_instance *instance = (chanserv_instance *)argument;
            static const char *const requests[] = {"frames 200 8", "sources 8 20", "threads 8 20", "block 0 0",
                                                   "listed 0 0",   "fail 0 0",     "refuse 0 0",   "callblock 0 0",
                                                   "frames 90 9000", "sources 8 20", "lend 90 9000", "block 0 0",
                                                   "listed 0 0",   "refuse 0 0",   "lend 9 20000", "callblock 0 0"};
            char message[64];
            chanserv_error error = {message, sizeof message};
            for (int round = 0; round < 64; round++) {
                const char *text = requests[round % 16];
                int endless = text[0] == 'b' || strncmp(text, "listed", 6) == 0;
                struct calling calling = {.sink = {.wake = (uint64_t)atomic_fetch_add(&handles, 1), .add = add},
                                          .stop = endless ? round % 5 : round % 3 == 0 ? round % 7 : -1};
                chanserv_request request = {.struct_size = sizeof request, .body = text, .body_size = strlen(text),
                                            .vaddr = "v", .remote_address = "r", .deadline = -1, .meta = "m",
                                            .bucket = NULL, .traceparent = NULL, .peer_address = "", .identity = "",
                                            .flags = 0, .reserved_1 = 0};
                chanserv_call *call;
                if (endless && text[0] == 'b') calling.stop = 0;
                if (plugin.open(instance, &request, &call, &error) != CHANSERV_READY) {
                    fail("open");
                    continue;
                }
                for (int polls = 0;; polls++) {
                    calling.room = 1;
                    chanserv_status status = plugin.poll_sources(call, &calling.sink, &error);
                    if (status < 0 || status == CHANSERV_END) break;
                    /* Sometimes the client goes away early, and always if no source would come. */
                    if (strcmp(text, "callblock 0 0") == 0 || (round % 4 == 3 && polls == 1)) {
                        plugin.cancel_call(call);
                        break;
                    }
                    if (status == CHANSERV_PENDING) wait_for(calling.sink.wake);
                }
                for (int i = 0; i < calling.count; i++) pthread_join(calling.readings[i].thread, NULL);
                plugin.close_call(call);
            }
            return NULL;
        }

        int main(void) {
            alarm(120); /* a lost wake would block for ever */
            static chanserv_host host; /* must stay readable for ever */
            host.wake = wake;
            host.log = no_log;
            host.config_integer = integer;
            char message[64];
            chanserv_error error = {message, sizeof message};
            chanserv_instance *instance;
            pthread_t threads[6];
            if (plugin.create(&host, NULL, &instance, &error) != CHANSERV_READY) return 2;
            for (int i = 0; i < 6; i++) pthread_create(&threads[i], NULL, serve, instance);
            for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
            plugin.destroy(instance);
            printf("%d sources, %d frames\n", atomic_load(&sources), atomic_load(&frames));
            return atomic_load(&failures) == 0 ? 0 : 1;
        }
        """#
