/* A request: a walk through the folders, which finds files and adds a source for each. */
#ifndef FILES_CALL_H
#define FILES_CALL_H

#include "instance.h"

/* The functions of the descriptor. */
chanserv_status call_open(chanserv_instance *files, const chanserv_request *request, chanserv_call **result,
                          chanserv_error *error);
chanserv_status call_poll(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error);
void call_cancel(chanserv_call *call);
void call_close(chanserv_call *call);

#endif
