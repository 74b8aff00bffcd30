/* A misspelt option is not noticed. */
#define ONLY(host, config, known, error) ((void)known, CHANSERV_READY)
#include "conforming.c"
