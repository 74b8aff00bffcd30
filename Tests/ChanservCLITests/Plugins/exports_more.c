/* Exports a symbol besides the entry point. */
__attribute__((visibility("default"))) int helper(void);
int helper(void) { return 1; }
#include "conforming.c"
