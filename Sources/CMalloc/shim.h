/* The C library's own options of malloc, which Swift's Glibc module leaves out. */
#include <malloc.h>
