/* An instance: its configuration and the state that its sources share. */
#ifndef FILES_INSTANCE_H
#define FILES_INSTANCE_H

#include "chanserv_plugin.h"
#include "folders/root.h"
#include "following/watching/watcher.h"
#include "reading/reader.h"
#include "request/options.h"

#include <stdatomic.h>

struct chanserv_instance {
    const chanserv_host *host;
    struct roots roots;
    struct cut cut;
    struct options defaults;
    struct watcher *watcher; /* NULL unless files are followed */
    size_t keep_max;         /* maximum files that stay open between polls */
    atomic_size_t kept;      /* number of files that stay open between polls */
    atomic_size_t memory;    /* bytes that decompressors use */
};

#endif
