/* Formatted error messages, always valid UTF-8. */
#ifndef SQLITE_FAIL_H
#define SQLITE_FAIL_H

#include "chanserv_plugin.h"

/* Writes the message and returns `status`, so that a caller can return the result. */
chanserv_status fail(chanserv_error *error, chanserv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
