/* The C library's malloc options (mallopt). Swift's Glibc module does not include them. */
#include <malloc.h>
