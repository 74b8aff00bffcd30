/* It expects a poll before each close. */
#include <stdlib.h>
#define ON_CLOSE_CALL(call) if (!(call)->polled) abort();
#include "conforming.c"
