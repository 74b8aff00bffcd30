/* Aborts if two threads call create at the same time. */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
static atomic_int inside;
#define ON_CREATE(instance) \
    if (atomic_fetch_add(&inside, 1) > 0) abort(); \
    usleep(2000); \
    atomic_fetch_sub(&inside, 1);
#include "conforming.c"
