/* Has the INLINE flag, as conforming.c does, but each poll takes 3 ms. */
#define ON_POLL_FRAMES(source) usleep(3000);
#include "conforming.c"
