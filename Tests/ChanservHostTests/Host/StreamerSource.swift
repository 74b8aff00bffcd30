/// A plugin in C whose frames name the version of the plugin. The test replaces 15 letters `@` in the library by the
/// version. This is faster than compiling each version.
///
/// Requests:
/// - `stream N` has one source of N frames `VERSION index`.
/// - `hold` has one source with one frame, which then waits until it is cancelled.
/// - `fail` fails in `open`.
///
/// Configuration:
/// - `label` is the text of the log lines `created LABEL` and `destroyed LABEL`. Default: the version.
/// - `fail` makes `create` fail with that message.
/// - `fifo` makes `create` wait until that pipe is opened for writing.
///
/// A library that is built with CRASH aborts in its constructor.
let streamerSource = #"""
    #include <fcntl.h>
    #include <stdatomic.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    #include "chanserv_plugin.h"

    #ifndef MAJOR
    #define MAJOR CHANSERV_ABI_MAJOR
    #endif

    static char version[16] = "@@@@@@@@@@@@@@@";

    #ifndef FLAGS
    #define FLAGS 0
    #endif

    struct chanserv_instance { const chanserv_host *host; char label[64]; };
    struct chanserv_call { chanserv_instance *instance; long count; int holds, listed; };
    struct chanserv_source {
        const chanserv_host *host; long count, next; int holds; atomic_int cancelled; _Atomic uint64_t wake;
    };

    static void say(const chanserv_host *host, const char *what, const char *label) {
        char line[128];
        int size = snprintf(line, sizeof line, "%s %s", what, label);
        host->log(host, CHANSERV_LOG_INFO, line, (size_t)size);
    }

    static chanserv_status create(const chanserv_host *host, const chanserv_config *config, chanserv_instance **instance,
                                  chanserv_error *error) {
        const char *known[] = {"label", "fail", "fifo"}, *label = version, *text;
        size_t size;
        chanserv_status status = host->config_only(host, config, known, 3, error);
        if (status < 0) return status;
        if (host->config_string(host, config, "fail", &text, &size, error) == CHANSERV_READY) {
            snprintf(error->message, error->capacity, "told to fail: %s", text);
            return CHANSERV_ERROR_BAD_REQUEST;
        }
        if (host->config_path(host, config, "fifo", &text, &size, error) == CHANSERV_READY) {
            say(host, "waiting at", text);
            close(open(text, O_RDONLY | O_CLOEXEC));
        }
        host->config_string(host, config, "label", &label, &size, error);
        *instance = calloc(1, sizeof **instance);
        (*instance)->host = host;
        snprintf((*instance)->label, sizeof (*instance)->label, "%s", label);
        say(host, "created", label);
        return CHANSERV_READY;
    }
    static void destroy(chanserv_instance *instance) {
        say(instance->host, "destroyed", instance->label);
        free(instance);
    }
    static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                     chanserv_error *error) {
        char text[64] = "";
        memcpy(text, request->body, request->body_size < 63 ? request->body_size : 63);
        if (strcmp(text, "fail") == 0) {
            snprintf(error->message, error->capacity, "told to fail");
            return CHANSERV_ERROR_INTERNAL;
        }
        *call = calloc(1, sizeof **call);
        (*call)->instance = instance;
        (*call)->holds = strcmp(text, "hold") == 0;
        sscanf(text, "stream %ld", &(*call)->count);
        return CHANSERV_READY;
    }
    static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
        (void)error;
        if (call->listed) return CHANSERV_END;
        chanserv_source *source = calloc(1, sizeof *source);
        source->host = call->instance->host;
        source->count = call->count;
        source->holds = call->holds;
        if (sink->add(sink, version, strlen(version), source) != CHANSERV_READY) { free(source); return CHANSERV_READY; }
        call->listed = 1;
        return CHANSERV_END;
    }
    static void cancel_call(chanserv_call *call) { (void)call; }
    static void close_call(chanserv_call *call) { free(call); }
    static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
        char text[128];
        if (source->holds) {
            source->wake = sink->wake;
            if (source->cancelled) {
                snprintf(error->message, error->capacity, "cancelled");
                return CHANSERV_ERROR_BUSY;
            }
            if (source->next++ == 0) return sink->append(sink, version, strlen(version));
            return CHANSERV_PENDING;
        }
        for (; source->next < source->count; source->next++) {
            int size = snprintf(text, sizeof text, "%s %ld", version, source->next);
            if (sink->append(sink, text, (size_t)size) != CHANSERV_READY) return CHANSERV_READY;
        }
        return CHANSERV_END;
    }
    static void cancel_source(chanserv_source *source) {
        source->cancelled = 1;
        source->host->wake(source->host, source->wake);
    }
    static void close_source(chanserv_source *source) { free(source); }

    #ifdef CRASH
    __attribute__((constructor)) static void crash(void) { abort(); }
    #endif

    static const chanserv_plugin plugin = {
        CHANSERV_PLUGIN_MAGIC, MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), FLAGS, "streamer", version,
        create, destroy, open_call, poll_sources, cancel_call, close_call, poll_frames, cancel_source, close_source,
    };
    CHANSERV_EXPORT const chanserv_plugin *CHANSERV_ENTRY(void) { return &plugin; }
    """#
