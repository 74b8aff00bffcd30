/* Reads the request as a string that ends with a zero byte. */
#include <string.h>
#define ON_OPEN(instance, request) if (strlen(request->body) == 100000) return CHANSERV_ERROR_BUSY;
#include "conforming.c"
