/* It does not look whether the host has lend. */
#define HAS_LEND(sink) true
#include "conforming.c"
