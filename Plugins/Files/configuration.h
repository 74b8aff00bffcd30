/* Reads the configuration of an instance; plugin.c lists the keys. */
#ifndef FILES_CONFIGURATION_H
#define FILES_CONFIGURATION_H

#include "instance.h"

/*
 * Reads the whole configuration. After success the caller must stop the watcher, which is started last. The caller
 * always frees the roots.
 */
chanserv_status configuration_read(chanserv_instance *files, const chanserv_config *config, chanserv_error *error);

#endif
