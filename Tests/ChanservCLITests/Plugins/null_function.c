/* Has a function that is NULL. */
#define DESCRIPTOR_CLOSE_SOURCE NULL
#define ON_ENTRY (void)close_source;
#include "conforming.c"
