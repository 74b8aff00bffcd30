/* Linux scheduling attributes. Not every C library declares them or has functions for them. */
#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The first version of `struct sched_attr`, which every kernel accepts. */
struct chanserv_scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

/* Reads the attributes of the calling thread. Returns 0, or -1 with errno. */
static inline int chanserv_get_scheduling(struct chanserv_scheduling *scheduling) {
    return (int)syscall(SYS_sched_getattr, 0, scheduling, sizeof *scheduling, 0);
}

/* Sets the attributes of the calling thread, and `size` in the struct. Returns 0, or -1 with errno. */
static inline int chanserv_set_scheduling(struct chanserv_scheduling *scheduling) {
    scheduling->size = sizeof *scheduling;
    return (int)syscall(SYS_sched_setattr, 0, scheduling, 0);
}
