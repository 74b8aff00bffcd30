/* Checks the layout of ABI 1.0 and 1.1. A change that would break compiled plugins does not compile. */
#include "chanserv_plugin.h"

#if UINTPTR_MAX == UINT64_MAX
/* 1.0: the first field of 1.1 begins at the end of the struct of 1.0. */
_Static_assert(sizeof(chanserv_plugin) == 104, "struct chanserv_plugin only ever grows at its end");
_Static_assert(offsetof(chanserv_plugin, close_source) == 96, "fields of struct chanserv_plugin never move");
_Static_assert(offsetof(chanserv_host, config_path) == 104, "fields of struct chanserv_host never move");
_Static_assert(offsetof(chanserv_host, context) == 112, "struct chanserv_host only ever grows at its end");
_Static_assert(offsetof(chanserv_request, deadline) == 40, "struct chanserv_request only ever grows at its end");
_Static_assert(offsetof(chanserv_source_sink, context) == 24, "struct chanserv_source_sink only ever grows at its end");
_Static_assert(offsetof(chanserv_frame_sink, context) == 40, "struct chanserv_frame_sink only ever grows at its end");
/* 1.1. */
_Static_assert(sizeof(chanserv_host) == 128, "struct chanserv_host only ever grows at its end");
_Static_assert(offsetof(chanserv_host, config_keys) == 120, "fields of struct chanserv_host never move");
_Static_assert(sizeof(chanserv_request) == 96, "struct chanserv_request only ever grows at its end");
_Static_assert(offsetof(chanserv_request, flags) == 88, "fields of struct chanserv_request never move");
_Static_assert(sizeof(chanserv_source_sink) == 32, "struct chanserv_source_sink only ever grows at its end");
_Static_assert(sizeof(chanserv_frame_sink) == 56, "struct chanserv_frame_sink only ever grows at its end");
_Static_assert(offsetof(chanserv_frame_sink, lend) == 48, "fields of struct chanserv_frame_sink never move");
#endif
