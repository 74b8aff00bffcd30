/* Does not wake the handle of a source after it is cancelled. */
#include <stdatomic.h>
#include <stdint.h>
static _Atomic uint64_t given_up[1 << 16];
static _Atomic uint64_t *place(uint64_t handle) { return &given_up[handle / 65537 % (1 << 16)]; }
#define WAKE_DELAY 20000
#define WAKE(host, handle) \
    if (atomic_load(place(handle)) != handle) (host)->wake(host, handle)
#define CANCEL_WAKE(host, handle) ((void)(host), atomic_store(place(handle), handle))
#include "conforming.c"
