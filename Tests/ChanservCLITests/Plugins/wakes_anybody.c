/* It wakes a handle that nobody gave it. */
#define ON_CREATE(instance) (instance)->host->wake((instance)->host, 42);
#include "conforming.c"
