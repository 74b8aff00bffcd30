/* Leaks memory if it refuses a request. */
#include <stdlib.h>
#include <string.h>
static void *volatile leaked_bytes;
#define ERROR_MESSAGE(error, text)                                                                                     \
    if (strncmp(text, "the request", 11) == 0) leaked_bytes = malloc(200);                                             \
    snprintf((error)->message, (error)->capacity, "%s", text)
#include "conforming.c"
