/* Wakes objects of the host at given times. One thread serves all alarms. It starts with the first alarm. */
#ifndef LOAD_TIMER_H
#define LOAD_TIMER_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stdint.h>

struct timer;

/* An alarm, embedded in the object that it wakes. It must be zeroed before its first use. */
struct alarm {
    uint64_t due;  /* monotonic nanoseconds */
    uint64_t wake; /* the handle for the host */
    size_t place;  /* index in the timer's heap, from 1; 0: not set */
};

/* Returns NULL if there is no memory. */
struct timer *timer_new(const chanserv_host *host);
/* Ends the thread and waits for its end. No alarm may be set any more. */
void timer_free(struct timer *timer);

/*
 * Sets an alarm, or changes it if it is set. At `due` the host is requested to poll again. Returns false if there is no
 * memory or no thread.
 */
bool timer_set(struct timer *timer, struct alarm *alarm, uint64_t due, uint64_t wake);
/* Triggers an alarm at once if it is set. Blocks only for the lock. */
void timer_hurry(struct timer *timer, struct alarm *alarm);
/* Removes an alarm from the timer. */
void timer_unset(struct timer *timer, struct alarm *alarm);

/* Monotonic nanoseconds. */
uint64_t timer_now(void);

#endif
