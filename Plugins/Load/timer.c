#define _POSIX_C_SOURCE 200809L
#include "timer.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* Maximum alarms that are triggered before the lock is released. */
#define WAKES_AT_ONCE 64

struct timer {
    const chanserv_host *host;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* signalled if the earliest alarm has changed or the thread must end */
    pthread_t thread;
    bool running, ending;
    /* A heap from index 1: no alarm is due before its parent, which is at half its index. */
    struct alarm **heap;
    size_t count, capacity;
};

uint64_t timer_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void put(struct timer *timer, struct alarm *alarm, size_t place) {
    timer->heap[place] = alarm;
    alarm->place = place;
}

/* Moves an alarm to its position in the heap, beginning at the free index `place`. */
static void heap_place(struct timer *timer, struct alarm *alarm, size_t place) {
    while (place > 1 && timer->heap[place / 2]->due > alarm->due) {
        put(timer, timer->heap[place / 2], place);
        place /= 2;
    }
    for (size_t child; (child = place * 2) <= timer->count; place = child) {
        if (child < timer->count && timer->heap[child + 1]->due < timer->heap[child]->due) {
            child++;
        }
        if (timer->heap[child]->due >= alarm->due) {
            break;
        }
        put(timer, timer->heap[child], place);
    }
    put(timer, alarm, place);
}

static void heap_remove(struct timer *timer, struct alarm *alarm) {
    size_t place = alarm->place;
    struct alarm *last = timer->heap[timer->count--];
    alarm->place = 0;
    if (last != alarm) {
        heap_place(timer, last, place);
    }
}

static void *run(void *argument) {
    struct timer *timer = argument;
    pthread_mutex_lock(&timer->lock);
    while (!timer->ending) {
        if (timer->count == 0) {
            pthread_cond_wait(&timer->changed, &timer->lock);
            continue;
        }
        uint64_t due = timer->heap[1]->due;
        if (due > timer_now()) {
            struct timespec until = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)};
            pthread_cond_timedwait(&timer->changed, &timer->lock, &until);
            continue;
        }
        uint64_t wakes[WAKES_AT_ONCE];
        size_t count = 0;
        uint64_t now = timer_now();
        while (count < WAKES_AT_ONCE && timer->count > 0 && timer->heap[1]->due <= now) {
            wakes[count++] = timer->heap[1]->wake;
            heap_remove(timer, timer->heap[1]);
        }
        pthread_mutex_unlock(&timer->lock);
        /* Handles are never reused, so waking a source that was closed meanwhile does nothing. */
        for (size_t i = 0; i < count; i++) {
            timer->host->wake(timer->host, wakes[i]);
        }
        pthread_mutex_lock(&timer->lock);
    }
    pthread_mutex_unlock(&timer->lock);
    return NULL;
}

/* Ensures that the thread runs and that there is room for one more alarm. Called with the lock held. */
static bool make_ready(struct timer *timer) {
    if (timer->count + 1 >= timer->capacity) {
        size_t capacity = timer->capacity == 0 ? 64 : timer->capacity * 2;
        struct alarm **heap = realloc(timer->heap, capacity * sizeof(struct alarm *));
        if (heap == NULL) {
            return false;
        }
        timer->heap = heap;
        timer->capacity = capacity;
    }
    if (!timer->running) {
        timer->running = pthread_create(&timer->thread, NULL, run, timer) == 0;
    }
    return timer->running;
}

bool timer_set(struct timer *timer, struct alarm *alarm, uint64_t due, uint64_t wake) {
    pthread_mutex_lock(&timer->lock);
    if (alarm->place != 0) {
        heap_remove(timer, alarm);
    }
    bool ready = make_ready(timer);
    if (ready) {
        alarm->due = due;
        alarm->wake = wake;
        heap_place(timer, alarm, ++timer->count);
        if (alarm->place == 1) {
            pthread_cond_signal(&timer->changed);
        }
    }
    pthread_mutex_unlock(&timer->lock);
    return ready;
}

void timer_hurry(struct timer *timer, struct alarm *alarm) {
    pthread_mutex_lock(&timer->lock);
    if (alarm->place != 0) {
        heap_remove(timer, alarm);
        timer->host->wake(timer->host, alarm->wake);
    }
    pthread_mutex_unlock(&timer->lock);
}

void timer_unset(struct timer *timer, struct alarm *alarm) {
    pthread_mutex_lock(&timer->lock);
    if (alarm->place != 0) {
        heap_remove(timer, alarm);
    }
    pthread_mutex_unlock(&timer->lock);
}

struct timer *timer_new(const chanserv_host *host) {
    struct timer *timer = calloc(1, sizeof *timer);
    if (timer == NULL) {
        return NULL;
    }
    timer->host = host;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&timer->lock, NULL);
    pthread_cond_init(&timer->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return timer;
}

void timer_free(struct timer *timer) {
    pthread_mutex_lock(&timer->lock);
    timer->ending = true;
    pthread_cond_signal(&timer->changed);
    pthread_mutex_unlock(&timer->lock);
    if (timer->running) {
        pthread_join(timer->thread, NULL);
    }
    pthread_cond_destroy(&timer->changed);
    pthread_mutex_destroy(&timer->lock);
    free(timer->heap);
    free(timer);
}
