/* Does not return from open. */
#include <unistd.h>
#define ON_OPEN(instance, request) while (request->body_size > 100000) usleep(1000);
#include "conforming.c"
