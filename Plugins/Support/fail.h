/* Formatted error messages and log lines, always valid UTF-8, whatever the name of a file. */
#ifndef PLUGIN_FAIL_H
#define PLUGIN_FAIL_H

#include "chanserv_plugin.h"

/* Writes the message and returns `status`, so that a caller can return the result. */
chanserv_status fail(chanserv_error *error, chanserv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* fail() for a system call that failed with `code` on `path`. Returns the status for the code, and appends its text. */
chanserv_status fail_errno(chanserv_error *error, int code, const char *problem, const char *path);

/* Writes to the host's log. */
void log_line(const chanserv_host *host, int32_t level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
