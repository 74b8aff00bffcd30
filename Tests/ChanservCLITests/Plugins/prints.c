/* Writes to standard output. */
#include <stdio.h>
#include <unistd.h>
#define ON_CREATE(instance) if (write(1, "hello\n", 6) != 6) return CHANSERV_ERROR_INTERNAL;
#include "conforming.c"
