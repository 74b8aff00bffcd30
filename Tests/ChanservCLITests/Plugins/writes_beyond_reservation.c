/* Writes one byte beyond its reservation. */
#define ON_FILLED(place, capacity) place[capacity] = 0;
#include "conforming.c"
