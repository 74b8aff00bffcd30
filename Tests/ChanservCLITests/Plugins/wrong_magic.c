/* Its descriptor begins with something else. */
#define DESCRIPTOR_MAGIC 0x12345678
#include "conforming.c"
