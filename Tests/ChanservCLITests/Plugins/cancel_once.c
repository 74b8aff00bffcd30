/* Aborts if a source is cancelled twice. */
#include <stdlib.h>
#define ON_CANCEL_SOURCE(source) if (atomic_load(&(source)->cancels) > 0) abort();
#include "conforming.c"
