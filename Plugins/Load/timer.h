/*
 * A timer that calls host->wake at given times. One thread serves all alarms. It starts with the first alarm and sleeps
 * until the earliest one.
 */
#ifndef LOAD_TIMER_H
#define LOAD_TIMER_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stdint.h>

struct timer;

/* One alarm. It is a field of the object to wake. Zero it before its first use. */
struct alarm {
    uint64_t due;  /* monotonic nanoseconds */
    uint64_t wake; /* the handle for host->wake */
    size_t place;  /* index in the timer's heap, from 1; 0: not set */
};

/* Makes a timer. Returns NULL if there is no memory. */
struct timer *timer_new(const chanserv_host *host);
/* Stops the thread, waits until it has ended, and frees the timer. The caller must not set an alarm afterwards. */
void timer_free(struct timer *timer);

/*
 * Sets an alarm, or moves it if it is already set. At `due` the timer calls host->wake with `wake`. Returns false if
 * there is no memory or the thread cannot start.
 */
bool timer_set(struct timer *timer, struct alarm *alarm, uint64_t due, uint64_t wake);
/* If the alarm is set, clears it and calls host->wake at once. Waits only for the lock. */
void timer_hurry(struct timer *timer, struct alarm *alarm);
/* Clears the alarm. Afterwards the timer has no reference to it. */
void timer_unset(struct timer *timer, struct alarm *alarm);

/* Returns the monotonic time in nanoseconds. */
uint64_t timer_now(void);

#endif
