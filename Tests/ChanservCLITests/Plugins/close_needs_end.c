/* Aborts if a polled source is closed before its end and without a cancel. */
#include <stdlib.h>
#define ON_CLOSE_SOURCE(source) if ((source)->polled && !(source)->ended && (source)->cancels == 0 && !(source)->refused) abort();
#define SOURCE_FIELDS bool refused;
#define ON_FRAME_FULL(status, taken) if (status == CHANSERV_ERROR_TOO_LARGE) source->refused = true;
#include "conforming.c"
