/* Has a wrong magic number in its descriptor. */
#define DESCRIPTOR_MAGIC 0x12345678
#include "conforming.c"
