/* It says that it returns at once (as conforming.c does), and waits for 3 ms in each poll. */
#define ON_POLL_FRAMES(source) usleep(3000);
#include "conforming.c"
