/* Its entry returns NULL. */
#define ON_ENTRY if (1) return 0;
#include "conforming.c"
