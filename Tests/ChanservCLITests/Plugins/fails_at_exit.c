/* Aborts in its destructor. */
#include <stdlib.h>
__attribute__((destructor)) static void end(void) { abort(); }
#include "conforming.c"
