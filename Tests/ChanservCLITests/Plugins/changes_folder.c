/* Changes the working directory. */
#include <unistd.h>
#define ON_CREATE(instance) if (chdir("/") != 0) return CHANSERV_ERROR_INTERNAL;
#include "conforming.c"
