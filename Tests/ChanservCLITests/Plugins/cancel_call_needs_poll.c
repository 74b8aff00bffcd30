/* It expects a poll before a call is cancelled. */
#include <stdlib.h>
#define ON_CANCEL_CALL(call) if (!(call)->polled) abort();
#include "conforming.c"
