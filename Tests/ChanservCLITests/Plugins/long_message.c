/* Writes error messages beyond the end of their buffer. */
#include <string.h>
#define ERROR_MESSAGE(error, text) strcpy((error)->message, text)
#include "conforming.c"
