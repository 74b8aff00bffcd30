/* Leaves a descriptor open per instance. */
#include <fcntl.h>
#define ON_DESTROY(instance) if (open("/dev/null", O_RDONLY) < 0) abort();
#include <stdlib.h>
#include "conforming.c"
