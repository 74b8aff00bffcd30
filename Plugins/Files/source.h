/* One file of a request as a source: opened late, polled, followed, closed. */
#ifndef FILES_SOURCE_H
#define FILES_SOURCE_H

#include "chanserv_plugin.h"
#include "follow.h"
#include "reader.h"

#include <stdatomic.h>

/* An instance: what its configuration says, and what its sources share. */
struct chanserv_instance {
    const chanserv_host *host;
    int root; /* the folder's descriptor */
    struct cut cut;
    struct watcher *watcher; /* NULL unless files are followed */
    size_t keep_max;         /* how many files may stay open between polls */
    atomic_size_t kept;      /* how many do */
};

/* NULL where there is no memory. */
chanserv_source *source_new(chanserv_instance *files, const char *path);

chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_close(chanserv_source *source);

/* For the watcher. */
bool source_changed(struct follower *follower);

#endif
