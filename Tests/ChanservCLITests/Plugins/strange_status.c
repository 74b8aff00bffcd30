/* It ends with a status that there is not. */
#define LAST_STATUS 7
#include "conforming.c"
