/* A source: one file of a request. It is opened late, polled, possibly followed, and closed. */
#ifndef FILES_SOURCE_H
#define FILES_SOURCE_H

#include "chanserv_plugin.h"
#include "follow.h"
#include "reader.h"

#include <stdatomic.h>

/* An instance: its configuration and the state that its sources share. */
struct chanserv_instance {
    const chanserv_host *host;
    int root; /* descriptor of the root folder */
    struct cut cut;
    struct watcher *watcher; /* NULL unless files are followed */
    size_t keep_max;         /* maximum files that stay open between polls */
    atomic_size_t kept;      /* number of files that stay open between polls */
};

/* Returns NULL if there is no memory. */
chanserv_source *source_new(chanserv_instance *files, const char *path);

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_close(chanserv_source *source);

/* Called by the watcher. */
bool source_changed(struct follower *follower);

#endif
