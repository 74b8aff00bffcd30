/* Aborts if a call is closed before its first poll. */
#include <stdlib.h>
#define ON_CLOSE_CALL(call) if (!(call)->polled) abort();
#include "conforming.c"
