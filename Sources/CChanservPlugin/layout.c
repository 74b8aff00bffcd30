/* Pins the layout of ABI 1.0: a change that would break compiled plugins does not compile. */
#include "chanserv_plugin.h"

#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(chanserv_plugin) == 104, "struct chanserv_plugin only ever grows at its end");
_Static_assert(offsetof(chanserv_plugin, close_source) == 96, "fields of struct chanserv_plugin never move");
_Static_assert(sizeof(chanserv_host) == 112, "struct chanserv_host only ever grows at its end");
_Static_assert(offsetof(chanserv_host, config_path) == 104, "fields of struct chanserv_host never move");
_Static_assert(sizeof(chanserv_request) == 40, "struct chanserv_request only ever grows at its end");
_Static_assert(sizeof(chanserv_source_sink) == 24, "struct chanserv_source_sink only ever grows at its end");
_Static_assert(sizeof(chanserv_frame_sink) == 40, "struct chanserv_frame_sink only ever grows at its end");
#endif
