/* Holds a lock during lend that its release function takes too. */
#include <pthread.h>
static pthread_mutex_t lending = PTHREAD_MUTEX_INITIALIZER;
#define ON_LEND(lent) pthread_mutex_lock(&lending);
#define ON_LENT(lent, status) pthread_mutex_unlock(&lending);
#define ON_RELEASE(lent) pthread_mutex_lock(&lending); pthread_mutex_unlock(&lending);
#include "conforming.c"
