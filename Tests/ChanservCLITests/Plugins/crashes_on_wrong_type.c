/* Aborts if an option has the wrong type. */
#include <stdlib.h>
#define ON_LIMIT(status) if (status == CHANSERV_ERROR_BAD_REQUEST) abort();
#include "conforming.c"
