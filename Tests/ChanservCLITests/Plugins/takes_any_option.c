/* Does not reject unknown options. */
#define ONLY(host, config, known, error) ((void)known, CHANSERV_READY)
#include "conforming.c"
