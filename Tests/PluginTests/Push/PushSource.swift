/// A plugin with chanserv_push.h. Its request is `command count size`.
let pushSource = #"""
    #ifdef __linux__
    #include <sys/prctl.h>
    #endif
    #include "chanserv_push.h"

    #include <stdio.h>

    struct chanserv_instance {
        chanserv_producers producers;
        char name[16]; /* the name of its threads */
    };

    static void say(chanserv_instance *instance, const char *what, int number) {
        char line[64];
        int size = snprintf(line, sizeof line, "%s %d", what, number);
        instance->producers.host->log(instance->producers.host, CHANSERV_LOG_INFO, line, (size_t)size);
    }

    /*
     * Pushes `count` frames that begin with their number; endless if `count` is negative. Logs each push if `instance`
     * is set.
     */
    static chanserv_status push_frames(chanserv_instance *instance, chanserv_source *source, int count, int size) {
        char *frame = (char *)calloc(1, (size_t)size + 16);
        chanserv_status status = CHANSERV_READY;
        if (frame == NULL) {
            return CHANSERV_ERROR_INTERNAL;
        }
        for (int i = 0; (count < 0 || i < count) && status == CHANSERV_READY; i++) {
            int length = snprintf(frame, 16, "%d", i);
            status = chanserv_push(source, frame, (size_t)(length > size ? length : size));
            if (instance != NULL && status == CHANSERV_READY) {
                say(instance, "pushed", i + 1);
            }
        }
        free(frame);
        return status;
    }

    static chanserv_status run_source(void *argument, chanserv_source *source, chanserv_error *error) {
        int count = *(int *)argument;
        free(argument);
        prctl(PR_SET_NAME, source->call->instance->name);
        chanserv_status status = push_frames(NULL, source, count, 0);
        if (count == 13) {
            snprintf(error->message, error->capacity, "thirteen is bad luck");
            return CHANSERV_ERROR_BUSY;
        }
        return status;
    }

    /* Blocks until a cancellation calls unblock. */
    struct blocker {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        int is_released;
    };

    static void unblock(void *argument) {
        struct blocker *blocker = (struct blocker *)argument;
        pthread_mutex_lock(&blocker->lock);
        blocker->is_released = 1;
        pthread_cond_broadcast(&blocker->changed);
        pthread_mutex_unlock(&blocker->lock);
    }

    static void block_until_released(struct blocker *blocker) {
        pthread_mutex_lock(&blocker->lock);
        while (!blocker->is_released) {
            pthread_cond_wait(&blocker->changed, &blocker->lock);
        }
        pthread_mutex_unlock(&blocker->lock);
    }

    struct lent {
        chanserv_instance *instance; /* the bytes follow */
    };

    static void release_lent(void *context) {
        struct lent *lent = (struct lent *)context;
        say(lent->instance, "released", 1);
        free(lent);
    }

    static chanserv_status produce(chanserv_instance *instance, const chanserv_request *request,
                                   chanserv_pusher *pusher, chanserv_error *error) {
        char text[64], command[32] = "", name[16];
        int count = 0, size = 0;
        chanserv_source *source = NULL;
        chanserv_status status = CHANSERV_READY;
        struct blocker blocker = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
        prctl(PR_SET_NAME, instance->name);
        snprintf(text, sizeof text, "%.*s", (int)request->body_size, (const char *)request->body);
        sscanf(text, "%31s %d %d", command, &count, &size);

        if (strcmp(command, "frames") == 0) {
            status = chanserv_push_source(pusher, text, strlen(text), &source);
            chanserv_push_listed(pusher);
            if (status == CHANSERV_READY) status = push_frames(NULL, source, count, size);
        } else if (strcmp(command, "slow") == 0) {
            status = chanserv_push_source(pusher, text, strlen(text), &source);
            if (status == CHANSERV_READY) status = push_frames(instance, source, count, size);
        } else if (strcmp(command, "sources") == 0 || strcmp(command, "threads") == 0) {
            for (int i = 0; i < count && status == CHANSERV_READY; i++) {
                int length = snprintf(name, sizeof name, "%d", i);
                if (command[0] == 's') {
                    status = chanserv_push_source(pusher, name, (size_t)length, &source);
                    if (status == CHANSERV_READY) status = push_frames(NULL, source, size, 0);
                    if (status == CHANSERV_READY) chanserv_push_end(source);
                } else {
                    int *argument = (int *)malloc(sizeof *argument);
                    *argument = size;
                    status = chanserv_push_source_on_thread(pusher, name, (size_t)length, run_source, argument);
                    if (status != CHANSERV_READY) free(argument);
                }
                if (status == CHANSERV_READY) say(instance, "added", i + 1);
            }
        } else if (strcmp(command, "lend") == 0 || strcmp(command, "lendlisted") == 0) {
            /* Lends frames of `size` bytes, each filled with another letter. */
            status = chanserv_push_source(pusher, text, strlen(text), &source);
            if (command[4] != 0) chanserv_push_listed(pusher);
            for (int i = 0; i < count && status == CHANSERV_READY; i++) {
                struct lent *lent = (struct lent *)malloc(sizeof *lent + (size_t)size);
                lent->instance = instance;
                memset(lent + 1, 'a' + i % 26, (size_t)size);
                status = chanserv_push_lent(source, lent + 1, (size_t)size, release_lent, lent);
                if (status != CHANSERV_READY) free(lent);
            }
        } else if (strcmp(command, "context") == 0) {
            char line[200];
            snprintf(line, sizeof line, "%s %s %s '%s' '%s' %s", request->meta != NULL ? request->meta : "none",
                     request->bucket != NULL ? request->bucket : "none",
                     request->traceparent != NULL ? request->traceparent : "none", request->peer_address,
                     request->identity, request->deadline < 0 ? "none" : "some");
            status = chanserv_push_source(pusher, text, strlen(text), &source);
            if (status == CHANSERV_READY) status = chanserv_push(source, line, strlen(line));
        } else if (strcmp(command, "refuse") == 0) {
            snprintf(error->message, error->capacity, "refused by the test");
            return CHANSERV_ERROR_BAD_REQUEST;
        } else if (strcmp(command, "late") == 0) {
            chanserv_push_source(pusher, "late", 4, &source);
            push_frames(NULL, source, 3, 0);
            snprintf(error->message, error->capacity, "too late");
            return CHANSERV_ERROR_BUSY;
        } else if (strcmp(command, "fail") == 0) {
            chanserv_push_source(pusher, "bad", 3, &source);
            push_frames(NULL, source, 2, 0);
            chanserv_push_fail(source, CHANSERV_ERROR_NOT_FOUND, "this one is bad");
            chanserv_push_source(pusher, "good", 4, &source);
            push_frames(NULL, source, 2, 0);
        } else if (strcmp(command, "listed") == 0) {
            chanserv_push_source(pusher, "", 0, &source);
            chanserv_push_listed(pusher);
            say(instance, "late source", chanserv_push_source(pusher, "", 0, &(chanserv_source *){NULL}));
            status = push_frames(NULL, source, -1, 0);
        } else if (strcmp(command, "block") == 0) {
            chanserv_push_source(pusher, "", 0, &source);
            chanserv_push_source_on_cancel(source, unblock, &blocker);
            say(instance, "blocking", 0);
            block_until_released(&blocker);
            chanserv_push_source_on_cancel(source, NULL, NULL);
            say(instance, "source cancelled", chanserv_push_source_is_cancelled(source));
        } else if (strcmp(command, "callblock") == 0) {
            chanserv_push_on_cancel(pusher, unblock, &blocker);
            say(instance, "blocking", 0);
            block_until_released(&blocker);
            chanserv_push_on_cancel(pusher, NULL, NULL);
            say(instance, "call cancelled", chanserv_push_is_cancelled(pusher));
            status = chanserv_push_source(pusher, "", 0, &source);
        } else if (strcmp(command, "mask") == 0) {
            static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
            sigset_t mask;
            pthread_sigmask(SIG_BLOCK, NULL, &mask);
            for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) count += sigismember(&mask, faults[i]);
            say(instance, "faults blocked", count);
            say(instance, "ends blocked", sigismember(&mask, SIGTERM) + sigismember(&mask, SIGINT));
        } else if (strcmp(command, "large") == 0) {
            chanserv_push_source(pusher, "", 0, &source);
            status = chanserv_push(source, NULL, CHANSERV_FRAME_SIZE_MAX + 1);
            say(instance, "too large", status);
            status = push_frames(NULL, source, count, size);
        }
        say(instance, "left", status);
        return status;
    }

    static chanserv_status create(const chanserv_host *host, const chanserv_config *config,
                                  chanserv_instance **instance, chanserv_error *error) {
        chanserv_push_options options = {0, 0, 0, 0, 0};
        int64_t number = 0;
        *instance = (chanserv_instance *)calloc(1, sizeof **instance);
        (void)host->config_integer(host, config, "tag", &number, error);
        snprintf((*instance)->name, sizeof (*instance)->name, "push-%d", (int)number);
        if (host->config_integer(host, config, "frames", &number, error) == CHANSERV_READY) options.frames = number;
        if (host->config_integer(host, config, "bytes", &number, error) == CHANSERV_READY) options.bytes = number;
        if (host->config_integer(host, config, "sources", &number, error) == CHANSERV_READY) options.sources = number;
        if (host->config_integer(host, config, "threads", &number, error) == CHANSERV_READY) {
            options.threads = options.source_threads = number;
        }
        if (host->config_integer(host, config, "source_threads", &number, error) == CHANSERV_READY) {
            options.source_threads = number;
        }
        return chanserv_producers_start(&(*instance)->producers, host, produce, &options);
    }

    static void destroy(chanserv_instance *instance) {
        chanserv_producers_stop(&instance->producers);
        free(instance);
    }

    static const chanserv_plugin plugin = CHANSERV_PUSH_DESCRIPTOR("push", "1", create, destroy);

    CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &plugin; }
    """#
