/* Leaks memory if a source is closed before its end. */
#include <stdlib.h>
static void *volatile leaked_bytes;
#define ON_CLOSE_SOURCE(source) if (!(source)->ended) leaked_bytes = malloc(100);
#include "conforming.c"
