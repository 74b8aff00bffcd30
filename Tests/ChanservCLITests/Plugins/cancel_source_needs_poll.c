/* Aborts if a source is cancelled before its first poll. */
#include <stdlib.h>
#define ON_CANCEL_SOURCE(source) if (!(source)->polled) abort();
#include "conforming.c"
