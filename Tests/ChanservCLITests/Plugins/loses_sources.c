/* A source that the sink has no room for is lost. */
#define ON_SOURCE_FULL(taken) if (status == CHANSERV_FULL && taken > 0) continue;
#include "conforming.c"
