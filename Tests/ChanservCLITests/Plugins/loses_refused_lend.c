/* Loses a frame if the host refuses to lend it because the sink is full. */
#define ON_FRAME_FULL(status, taken) if (status == CHANSERV_FULL && source->sent % 4 == 2) continue;
#include "conforming.c"
