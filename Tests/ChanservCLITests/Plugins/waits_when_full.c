/* Returns PENDING if the sink is full. */
#define ON_FRAME_FULL(status, taken) if (status == CHANSERV_FULL && taken == 0) return CHANSERV_PENDING;
#include "conforming.c"
