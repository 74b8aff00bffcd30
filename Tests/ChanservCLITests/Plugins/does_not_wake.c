/* Nobody is woken but by cancel. */
#define WAKE(host, handle) ((void)(host), (void)(handle))
#include "conforming.c"
