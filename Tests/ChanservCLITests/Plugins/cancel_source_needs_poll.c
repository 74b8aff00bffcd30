/* It expects a poll before a source is cancelled. */
#include <stdlib.h>
#define ON_CANCEL_SOURCE(source) if (!(source)->polled) abort();
#include "conforming.c"
