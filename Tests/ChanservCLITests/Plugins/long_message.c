/* Its error messages are longer than their buffer. */
#include <string.h>
#define ERROR_MESSAGE(error, text) strcpy((error)->message, text)
#include "conforming.c"
