/* Aborts if a call is cancelled before its first poll. */
#include <stdlib.h>
#define ON_CANCEL_CALL(call) if (!(call)->polled) abort();
#include "conforming.c"
