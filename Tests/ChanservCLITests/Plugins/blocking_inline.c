/* It says that it may block, and that it returns at once. */
#define DESCRIPTOR_FLAGS (CHANSERV_PLUGIN_INLINE | CHANSERV_PLUGIN_BLOCKING)
#include "conforming.c"
