/* Wakes handles only in cancel. */
#define WAKE(host, handle) ((void)(host), (void)(handle))
#include "conforming.c"
