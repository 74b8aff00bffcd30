/* Returns an unknown status at the end of a source. */
#define LAST_STATUS 7
#include "conforming.c"
