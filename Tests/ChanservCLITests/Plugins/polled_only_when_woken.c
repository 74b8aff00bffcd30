/* Aborts if a source that returned PENDING is polled before its wake. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
static _Atomic uint64_t woken[1 << 16];
static _Atomic uint64_t *place(uint64_t handle) { return &woken[handle / 65537 % (1 << 16)]; }
#define WAKE(host, handle) (atomic_store(place(handle), handle), (host)->wake(host, handle))
#define ON_POLL_FRAMES(source) \
    if ((source)->waited && atomic_load(&(source)->cancels) == 0 && atomic_load(place(sink->wake)) != sink->wake) abort();
#include "conforming.c"
