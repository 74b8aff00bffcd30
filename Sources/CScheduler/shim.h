/* Linux's scheduling attributes, for which the C library has neither a declaration nor a function everywhere. */
#pragma once

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* `struct sched_attr` as it was first, which every kernel takes. */
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

/* Of the calling thread. 0, or -1 with errno. */
static inline int chanserv_get_scheduling(struct chanserv_scheduling *scheduling) {
    return (int)syscall(SYS_sched_getattr, 0, scheduling, sizeof *scheduling, 0);
}

static inline int chanserv_set_scheduling(struct chanserv_scheduling *scheduling) {
    scheduling->size = sizeof *scheduling;
    return (int)syscall(SYS_sched_setattr, 0, scheduling, 0);
}
