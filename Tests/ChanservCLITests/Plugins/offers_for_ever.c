/* Offers a frame that is too large again and again. */
#define ON_FRAME_FULL(status, taken) if (status == CHANSERV_ERROR_TOO_LARGE) return CHANSERV_READY;
#include "conforming.c"
