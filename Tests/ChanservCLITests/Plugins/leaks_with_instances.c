/* Leaks memory per instance. */
#include <stdlib.h>
static void *volatile leaked_bytes;
#define ON_CREATE(instance) leaked_bytes = malloc(10000);
#include "conforming.c"
