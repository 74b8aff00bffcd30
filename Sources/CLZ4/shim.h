#include <lz4.h>
#include <stddef.h>

/* In every C library, but glibc's header declares it for _GNU_SOURCE alone, which would have to be said before any other header. */
void *memmem(const void *haystack, size_t haystack_length, const void *needle, size_t needle_length);
