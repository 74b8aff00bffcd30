/* Leaks memory per request. */
#include <stdlib.h>
static void *volatile leaked_bytes;
#define ON_OPENED(call, request) leaked_bytes = malloc(64);
#include "conforming.c"
