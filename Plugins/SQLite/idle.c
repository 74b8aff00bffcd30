#define _GNU_SOURCE
#include "idle.h"

#include "database.h"
#include "fail.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct idle_watch {
    const chanserv_host *host;
    int64_t limit;
    pthread_t thread;
    pthread_mutex_t lock; /* protects all fields below; `busy` of a reader is taken before it, or only tried */
    pthread_cond_t changed;
    bool stopping;
    struct idle_reader *readers;
};

static void unlist(struct idle_watch *watch, struct idle_reader *reader) {
    if (reader->listed) {
        reader->listed = false;
        *(reader->previous != NULL ? &reader->previous->next : &watch->readers) = reader->next;
        if (reader->next != NULL) {
            reader->next->previous = reader->previous;
        }
    }
}

/* Ends the statement if no poll uses it. A poll that runs now will make progress or find the sink full. */
static void expire(struct idle_watch *watch, struct idle_reader *reader) {
    if (pthread_mutex_trylock(&reader->busy) != 0) {
        return;
    }
    if (reader->reading) {
        sqlite3_reset(reader->statement);
        reader->reading = false;
        reader->expired = true;
        unlist(watch, reader);
        watch->host->wake(watch->host, reader->wake);
    }
    pthread_mutex_unlock(&reader->busy);
}

static void *run(void *argument) {
    struct idle_watch *watch = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_mutex_lock(&watch->lock);
    while (!watch->stopping) {
        int64_t now = monotonic_now(), due = INT64_MAX;
        for (struct idle_reader *reader = watch->readers, *next; reader != NULL; reader = next) {
            next = reader->next;
            int64_t end = atomic_load(&reader->progressed) + watch->limit;
            if (end <= now) {
                expire(watch, reader);
                end = now + 10000000; /* a poll was running */
            }
            due = reader->listed && end < due ? end : due;
        }
        if (due == INT64_MAX) {
            pthread_cond_wait(&watch->changed, &watch->lock);
        } else {
            struct timespec until = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
            pthread_cond_timedwait(&watch->changed, &watch->lock, &until);
        }
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

struct idle_watch *idle_start(const chanserv_host *host, int64_t limit, chanserv_error *error) {
    struct idle_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL) {
        fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
        return NULL;
    }
    watch->host = host;
    watch->limit = limit;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&watch->lock, NULL);
    if (pthread_create(&watch->thread, NULL, run, watch) != 0) {
        pthread_cond_destroy(&watch->changed);
        pthread_mutex_destroy(&watch->lock);
        free(watch);
        fail(error, CHANSERV_ERROR_INTERNAL, "cannot start a thread for idle_limit");
        return NULL;
    }
    return watch;
}

void idle_stop(struct idle_watch *watch) {
    if (watch == NULL) {
        return;
    }
    pthread_mutex_lock(&watch->lock);
    watch->stopping = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

void idle_init(struct idle_reader *reader, sqlite3_stmt *statement) {
    *reader = (struct idle_reader){.statement = statement};
    pthread_mutex_init(&reader->busy, NULL);
}

bool idle_enter(struct idle_watch *watch, struct idle_reader *reader, uint64_t wake) {
    if (watch == NULL) {
        return true;
    }
    pthread_mutex_lock(&reader->busy);
    if (reader->expired) {
        pthread_mutex_unlock(&reader->busy);
        return false;
    }
    reader->wake = wake;
    if (!reader->reading) {
        atomic_store(&reader->progressed, monotonic_now());
    }
    return true;
}

void idle_leave(struct idle_watch *watch, struct idle_reader *reader, bool reading, bool progress) {
    if (watch == NULL) {
        return;
    }
    if (progress) {
        atomic_store(&reader->progressed, monotonic_now());
    }
    bool changes = reader->reading != reading;
    reader->reading = reading;
    if (changes) {
        pthread_mutex_lock(&watch->lock);
        if (!reading) {
            unlist(watch, reader);
        } else if (!reader->listed) {
            reader->listed = true;
            reader->previous = NULL;
            reader->next = watch->readers;
            if (reader->next != NULL) {
                reader->next->previous = reader;
            }
            watch->readers = reader;
            pthread_cond_signal(&watch->changed);
        }
        pthread_mutex_unlock(&watch->lock);
    }
    pthread_mutex_unlock(&reader->busy);
}

void idle_remove(struct idle_watch *watch, struct idle_reader *reader) {
    if (watch != NULL) {
        pthread_mutex_lock(&watch->lock);
        unlist(watch, reader);
        pthread_mutex_unlock(&watch->lock);
    }
    pthread_mutex_destroy(&reader->busy);
}
