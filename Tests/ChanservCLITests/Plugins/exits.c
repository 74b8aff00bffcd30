/* Calls exit. */
#include <stdlib.h>
#define ON_OPEN(instance, request) if (request->body_size > 100000) exit(3);
#include "conforming.c"
