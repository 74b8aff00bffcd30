/* Error messages and log lines: formatted, and always UTF-8, even if a file name is not. */
#ifndef FILES_FAIL_H
#define FILES_FAIL_H

#include "chanserv_plugin.h"

/* Writes the message and returns `status`, so that a function can fail in one line. */
chanserv_status fail(chanserv_error *error, chanserv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * As fail, for a system call that failed with `code` (an errno value). Returns the status for this code. The message is
 * "path: problem: text of the code".
 */
chanserv_status fail_errno(chanserv_error *error, int code, const char *problem, const char *path);

/* Logs a formatted line through the host. */
void log_line(const chanserv_host *host, int32_t level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
