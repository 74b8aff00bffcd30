/* Fails if different threads poll a source. */
#define SOURCE_FIELDS pthread_t thread;
#define ON_POLL_FRAMES(source) \
    if (!(source)->polled) (source)->thread = pthread_self(); \
    else if (!pthread_equal((source)->thread, pthread_self())) return fail(error, CHANSERV_ERROR_INTERNAL, "another thread");
#include "conforming.c"
