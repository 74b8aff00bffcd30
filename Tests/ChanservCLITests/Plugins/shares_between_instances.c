/* Fails requests of an instance after another instance was destroyed. */
#include <stdatomic.h>
static atomic_int prefixes;
#define ON_CREATE(instance) atomic_store(&prefixes, 1);
#define ON_DESTROY(instance) atomic_store(&prefixes, 0);
#define ON_OPEN(instance, request) if (!atomic_load(&prefixes)) return fail(error, CHANSERV_ERROR_INTERNAL, "gone");
#include "conforming.c"
