/* Leaves a thread running per instance. */
#include <pthread.h>
#include <unistd.h>
static void *stay(void *argument) {
    for (;;) pause();
    return argument;
}
#define ON_CREATE(instance) \
    pthread_t other; \
    if (pthread_create(&other, NULL, stay, NULL) == 0) pthread_detach(other);
#include "conforming.c"
