#define _GNU_SOURCE
#include "configuration.h"

#include "fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Treats an absent key as success: the default applies. Returns whether the getter succeeded. */
static bool read_well(chanserv_status *status) {
    if (*status == CHANSERV_ERROR_NOT_FOUND) {
        *status = CHANSERV_READY;
    }
    return *status == CHANSERV_READY;
}

static chanserv_status read_unit(const chanserv_host *host, const chanserv_config *config, struct cut *cut,
                                 chanserv_error *error) {
    const char *unit = "lines";
    size_t size = strlen(unit);
    chanserv_status status = host->config_string(host, config, "unit", &unit, &size, error);
    if (!read_well(&status)) {
        return status;
    }
    cut->lines = strcmp(unit, "lines") == 0;
    if (!cut->lines && strcmp(unit, "chunks") != 0) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "unit: %s is neither lines nor chunks", unit);
    }

    int32_t strip = 0;
    status = host->config_boolean(host, config, "strip", &strip, error);
    if (!read_well(&status)) {
        return status;
    }
    if (strip && !cut->lines) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "strip: only lines have line endings; it needs `unit: lines`");
    }
    cut->strip = strip != 0;

    uint64_t chunk_size = 65536;
    status = host->config_size(host, config, "chunk_size", &chunk_size, error);
    if (!read_well(&status)) {
        return status;
    }
    if (chunk_size < 1 || chunk_size > CHANSERV_FRAME_SIZE_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "chunk_size: %" PRIu64 " bytes are not between 1 and 100MiB",
                    chunk_size);
    }
    cut->chunk_size = (size_t)chunk_size;
    return CHANSERV_READY;
}

static chanserv_status read_roots(const chanserv_host *host, const chanserv_config *config, struct roots *roots,
                                  chanserv_error *error) {
    const char *path;
    size_t size, count = 0;
    chanserv_status status = host->config_path(host, config, "root", &path, &size, error);
    if (status == CHANSERV_ERROR_NOT_FOUND) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "root is missing: it must be the folder whose files are served");
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    roots->path = strdup(path);
    status = host->config_count(host, config, "follow_links", &count, error);
    if (!read_well(&status)) {
        return status;
    }
    if (count > LINK_FOLDERS_MAX) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "follow_links has %zu folders; at most %d are allowed", count,
                    LINK_FOLDERS_MAX);
    }
    bool complete = roots->path != NULL;
    for (size_t i = 0; i < count; i++) {
        char key[48];
        snprintf(key, sizeof key, "follow_links.%zu", i);
        status = host->config_path(host, config, key, &path, &size, error);
        if (status != CHANSERV_READY) {
            return status;
        }
        roots->link[roots->links] = strdup(path);
        complete &= roots->link[roots->links++] != NULL;
    }
    if (!complete) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
    }
    struct root *root = roots_open(roots, &status, error);
    if (root == NULL) {
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    for (size_t i = 0; i < root->links; i++) {
        if (root->link[i].folder < 0) {
            log_line(host, CHANSERV_LOG_WARNING,
                     "follow_links: %s cannot be opened: links into it are left out until it exists", roots->link[i]);
        }
    }
    root_release(root);
    return CHANSERV_READY;
}

static chanserv_status read_boolean(const chanserv_host *host, const chanserv_config *config, const char *key,
                                    bool *value, chanserv_error *error) {
    int32_t flag = 0;
    chanserv_status status = host->config_boolean(host, config, key, &flag, error);
    *value = flag != 0;
    read_well(&status);
    return status;
}

/* Reads a duration between two others. `range` names them. */
static chanserv_status read_duration(const chanserv_host *host, const chanserv_config *config, const char *key,
                                     int64_t low, int64_t high, const char *range, int64_t *value,
                                     chanserv_error *error) {
    chanserv_status status = host->config_duration(host, config, key, value, error);
    if (read_well(&status) && (*value < low || *value > high)) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "%s is not between %s", key, range);
    }
    return status;
}

/* Reads what requests may change. */
static chanserv_status read_defaults(const chanserv_host *host, const chanserv_config *config,
                                     struct options *defaults, chanserv_error *error) {
    defaults->tail = -1;
    chanserv_status status = read_boolean(host, config, "follow", &defaults->follow, error);
    if (status == CHANSERV_READY) {
        status = read_boolean(host, config, "new_files", &defaults->new_files, error);
    }
    if (status == CHANSERV_READY) {
        status = read_boolean(host, config, "decompress", &defaults->decompress, error);
    }
    if (status == CHANSERV_READY && defaults->new_files && !defaults->follow) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "new_files: only a request that follows waits for new files; it "
                                                       "needs `follow: true`");
    }
    return status;
}

static chanserv_status read_limits(const chanserv_host *host, const chanserv_config *config,
                                   struct follow_limits *limits, chanserv_error *error) {
    int64_t open_files = 256;
    chanserv_status status = host->config_integer(host, config, "open_files", &open_files, error);
    if (!read_well(&status)) {
        return status;
    }
    if (open_files < 0 || open_files > 1000000) {
        return fail(error, CHANSERV_ERROR_BAD_REQUEST, "open_files: %" PRId64 " is not between 0 and 1000000",
                    open_files);
    }
    limits->open_files = (size_t)open_files;
    limits->interval = INT64_C(1000000000);
    limits->window = INT64_C(30000000000);
    status = read_duration(host, config, "follow_interval", INT64_C(10000000), INT64_C(3600000000000), "10ms and 1h",
                           &limits->interval, error);
    if (status != CHANSERV_READY) {
        return status;
    }
    return read_duration(host, config, "resume_window", 0, INT64_C(3600000000000), "0s and 1h", &limits->window, error);
}

chanserv_status configuration_read(chanserv_instance *files, const chanserv_config *config, chanserv_error *error) {
    static const char *const known[] = {"root",         "unit",       "chunk_size", "strip",
                                        "follow",       "new_files",  "decompress", "follow_interval",
                                        "follow_links", "open_files", "resume_window"};
    const chanserv_host *host = files->host;
    struct follow_limits limits = {.open = &files->kept};
    chanserv_status status = host->config_only(host, config, known, sizeof known / sizeof *known, error);
    if (status == CHANSERV_READY) {
        status = read_unit(host, config, &files->cut, error);
    }
    if (status == CHANSERV_READY) {
        status = read_defaults(host, config, &files->defaults, error);
    }
    if (status == CHANSERV_READY) {
        status = read_limits(host, config, &limits, error);
    }
    if (status == CHANSERV_READY) {
        status = read_roots(host, config, &files->roots, error);
    }
    if (status != CHANSERV_READY) {
        return status;
    }
    files->keep_max = limits.open_files;
    if (files->defaults.follow) {
        files->watcher = watcher_start(host, &limits, error);
        return files->watcher == NULL ? CHANSERV_ERROR_INTERNAL : CHANSERV_READY;
    }
    return CHANSERV_READY;
}
