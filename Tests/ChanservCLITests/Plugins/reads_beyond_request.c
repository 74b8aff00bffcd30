/* It takes a request for a text with a zero at its end. */
#include <string.h>
#define ON_OPEN(instance, request) if (strlen(request->body) == 100000) return CHANSERV_ERROR_BUSY;
#include "conforming.c"
