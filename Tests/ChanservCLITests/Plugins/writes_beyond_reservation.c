/* It writes one byte more than it has reserved. */
#define ON_FILLED(place, capacity) place[capacity] = 0;
#include "conforming.c"
