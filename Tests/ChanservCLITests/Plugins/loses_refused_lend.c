/* A frame whose lend is refused for want of room is lost. */
#define ON_FRAME_FULL(status, taken) if (status == CHANSERV_FULL && source->sent % 4 == 2) continue;
#include "conforming.c"
