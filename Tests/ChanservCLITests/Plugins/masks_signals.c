/* Blocks a signal in a thread of the host. */
#include <pthread.h>
#include <signal.h>
#define ON_OPEN(instance, request) \
    sigset_t set; \
    sigemptyset(&set); \
    sigaddset(&set, SIGUSR2); \
    pthread_sigmask(SIG_BLOCK, &set, NULL);
#include "conforming.c"
