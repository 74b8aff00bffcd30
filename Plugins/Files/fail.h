/* Error messages and log lines: formatted, and always UTF-8, whatever a file is called. */
#ifndef FILES_FAIL_H
#define FILES_FAIL_H

#include "chanserv_plugin.h"

/* Writes the message and returns `status`, so that a function can fail in one line. */
chanserv_status fail(chanserv_error *error, chanserv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* fail() for a system call that failed with `code` on `path`: the status that suits the code, and its text. */
chanserv_status fail_errno(chanserv_error *error, int code, const char *what, const char *path);

/* Logs through the host. */
void log_line(const chanserv_host *host, int32_t level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
