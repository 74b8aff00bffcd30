/* Changes the handler of a signal. */
#include <signal.h>
#define ON_CREATE(instance) signal(SIGUSR1, SIG_IGN);
#include "conforming.c"
