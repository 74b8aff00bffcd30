/* Wakes a handle that it did not receive from the host. */
#define ON_CREATE(instance) (instance)->host->wake((instance)->host, 42);
#include "conforming.c"
