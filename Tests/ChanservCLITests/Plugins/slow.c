/* Sleeps in open without the BLOCKING flag. */
#include <unistd.h>
#define ON_OPEN(instance, request) usleep(15000);
#include "conforming.c"
