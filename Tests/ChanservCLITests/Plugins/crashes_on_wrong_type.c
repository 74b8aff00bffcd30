/* An option of the wrong type is its end. */
#include <stdlib.h>
#define ON_LIMIT(status) if (status == CHANSERV_ERROR_BAD_REQUEST) abort();
#include "conforming.c"
