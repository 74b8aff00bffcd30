/* Changes its descriptor, which must be constant. */
#define DESCRIPTOR_STORAGE
#define ON_CREATE(instance) descriptor.version = "2";
#include "chanserv_plugin.h"
static chanserv_plugin descriptor;
#include "conforming.c"
