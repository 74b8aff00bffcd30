/* Aborts if two sources of a call are polled at the same time. */
#include <stdlib.h>
#define CALL_FIELDS atomic_int inside;
#define ON_POLL_FRAMES(source) \
    if (atomic_fetch_add(&(source)->call->inside, 1) > 0) abort(); \
    usleep(500); \
    atomic_fetch_sub(&(source)->call->inside, 1);
#include "conforming.c"
