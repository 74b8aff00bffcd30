/* Calls lend without checking that the host has it. */
#define HAS_LEND(sink) true
#include "conforming.c"
