/*
 * One source. It makes frames as fast as the host polls, or at its rate. The plugin's descriptor refers to its
 * functions.
 */
#ifndef LOAD_SOURCE_H
#define LOAD_SOURCE_H

#include "chanserv_plugin.h"
#include "content.h"
#include "pool.h"
#include "request.h"
#include "timer.h"

/* Makes a source. Returns NULL if there is no memory. The arguments that are pointers must outlive the source. */
chanserv_source *source_new(const struct load_request *request, uint64_t number, const struct content *content,
                            struct pool *pool, struct timer *timer);
chanserv_status source_poll(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
void source_cancel(chanserv_source *source);
void source_free(chanserv_source *source);

#endif
