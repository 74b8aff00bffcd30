/* Aborts in its constructor. */
#include <stdlib.h>
__attribute__((constructor)) static void begin(void) { abort(); }
#include "conforming.c"
