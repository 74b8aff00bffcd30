/* Returns NULL from its entry point. */
#define ON_ENTRY if (1) return 0;
#include "conforming.c"
