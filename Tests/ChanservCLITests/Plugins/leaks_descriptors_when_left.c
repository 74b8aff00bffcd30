/* A source that is closed before its end leaves a descriptor open. */
#include <fcntl.h>
static volatile int left_open;
#define ON_CLOSE_SOURCE(source) if (!(source)->ended) left_open = open("/dev/null", O_RDONLY);
#include "conforming.c"
