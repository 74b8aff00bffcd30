#include <lz4.h>
#include <stddef.h>

/* Every C library has this function, but glibc declares it only with _GNU_SOURCE, which must precede all headers. */
void *memmem(const void *haystack, size_t haystack_length, const void *needle, size_t needle_length);
