/* It expects one cancel at most. */
#include <stdlib.h>
#define ON_CANCEL_SOURCE(source) if (atomic_load(&(source)->cancels) > 0) abort();
#include "conforming.c"
