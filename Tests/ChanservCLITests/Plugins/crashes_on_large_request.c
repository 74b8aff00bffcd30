/* Aborts on a large request. */
#include <stdlib.h>
#define ON_OPEN(instance, request) if (request->body_size > 100000) abort();
#include "conforming.c"
