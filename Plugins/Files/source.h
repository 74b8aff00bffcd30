/* A source: one file of a request. The file is opened at the first poll. */
#ifndef FILES_SOURCE_H
#define FILES_SOURCE_H

#include "chanserv_plugin.h"
#include "follow.h"
#include "reader.h"

#include <stdatomic.h>

/* An instance: its configuration, and the state that its sources share. */
struct chanserv_instance {
    const chanserv_host *host;
    int root; /* descriptor of the root folder */
    struct cut cut;
    struct watcher *watcher; /* NULL unless files are followed */
    size_t keep_max;         /* maximum number of files that stay open between polls */
    atomic_size_t kept;      /* the current number of such files */
};

/* Makes a source. Returns NULL if there is no memory. */
chanserv_source *source_new(chanserv_instance *files, const char *path);

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_close(chanserv_source *source);

/* Returns whether a waiting source has new data. The watcher's thread calls it. */
bool source_changed(struct follower *follower);

#endif
