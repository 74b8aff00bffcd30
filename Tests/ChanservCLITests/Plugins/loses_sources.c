/* Loses a source if the sink is full. */
#define ON_SOURCE_FULL(taken) if (status == CHANSERV_FULL && taken > 0) continue;
#include "conforming.c"
