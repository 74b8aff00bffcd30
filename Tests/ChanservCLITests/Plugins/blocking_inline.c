/* Has both flags, INLINE and BLOCKING, which exclude each other. */
#define DESCRIPTOR_FLAGS (CHANSERV_PLUGIN_INLINE | CHANSERV_PLUGIN_BLOCKING)
#include "conforming.c"
