/* A source, which makes its frames on request or at a given rate. Its functions belong to the plugin's table. */
#ifndef LOAD_SOURCE_H
#define LOAD_SOURCE_H

#include "chanserv_plugin.h"
#include "content.h"
#include "pool.h"
#include "request.h"
#include "timer.h"

/* Returns NULL if there is no memory. The other arguments must outlive the source. */
chanserv_source *source_new(const struct load_request *request, uint64_t number, const struct content *content,
                            struct pool *pool, struct timer *timer);
chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_free(chanserv_source *source);

#endif
