/* Aborts if a source ends while another one that has ended is not closed yet. */
#include <stdlib.h>
#define CALL_FIELDS int ended_sources;
#define LAST_STATUS (source->call->ended_sources++, CHANSERV_END)
#define ON_CLOSE_SOURCE(source) if ((source)->ended && --(source)->call->ended_sources > 0) abort();
#include "conforming.c"
