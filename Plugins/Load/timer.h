/*
 * Wakes objects of the host at given times: one thread for all of them, which starts with the first and otherwise waits
 * for the earliest.
 */
#ifndef LOAD_TIMER_H
#define LOAD_TIMER_H

#include "chanserv_plugin.h"

#include <stdbool.h>
#include <stdint.h>

struct timer;

/* One time to be woken at; lives inside what is to be woken. Zeroed before its first use. */
struct alarm {
    uint64_t due;  /* monotonic nanoseconds */
    uint64_t wake; /* the handle for the host */
    size_t place;  /* in the timer's heap, from 1; 0: not set */
};

/* NULL where there is no memory. */
struct timer *timer_new(const chanserv_host *host);
/* Ends the thread, and waits for that. No alarm may be set any more. */
void timer_free(struct timer *timer);

/* Sets an alarm, anew if it was set: at `due` the host is told to poll again. false: no memory, or no thread. */
bool timer_set(struct timer *timer, struct alarm *alarm, uint64_t due, uint64_t wake);
/* Makes an alarm that is set go off at once. Never waits for anything but the lock. */
void timer_hurry(struct timer *timer, struct alarm *alarm);
/* Afterwards the timer does not know the alarm any more. */
void timer_unset(struct timer *timer, struct alarm *alarm);

/* Monotonic nanoseconds. */
uint64_t timer_now(void);

#endif
