/* A source that is closed before its end leaves some memory allocated. */
#include <stdlib.h>
static void *volatile leaked_bytes;
#define ON_CLOSE_SOURCE(source) if (!(source)->ended) leaked_bytes = malloc(100);
#include "conforming.c"
