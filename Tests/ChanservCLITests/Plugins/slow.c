/* It sleeps in open, and does not say that it blocks. */
#include <unistd.h>
#define ON_OPEN(instance, request) usleep(15000);
#include "conforming.c"
