/* Leaks memory if a getter fails in create. */
#include <stdlib.h>
static void *volatile leaked_bytes;
#define ON_LIMIT(status) if (status == CHANSERV_ERROR_BAD_REQUEST) leaked_bytes = malloc(20000);
#include "conforming.c"
