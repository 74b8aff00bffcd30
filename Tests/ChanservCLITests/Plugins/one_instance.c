/* Supports only one instance at a time. */
#include <stdatomic.h>
static atomic_int instances;
#define ON_LIMIT(status) \
    if (atomic_load(&instances) > 0) return fail(error, CHANSERV_ERROR_BUSY, "there is one already");
#define ON_CREATE(instance) atomic_fetch_add(&instances, 1);
#define ON_DESTROY(instance) atomic_fetch_sub(&instances, 1);
#include "conforming.c"
