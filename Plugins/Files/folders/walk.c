#define _GNU_SOURCE
#include "folders/walk.h"

#include "fail.h"
#include "folders/beneath.h"
#include "folders/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Number of folder entries that one step reads. */
#define ENTRIES_PER_STEP 64

/* One folder on the path from the root to the current folder. */
struct level {
    DIR *listing;       /* open while its entries are read */
    struct names names; /* matching names that are not visited yet */
    glob_state *state;  /* the state of the patterns in this folder */
    struct identity is; /* of the folder; known only if links are followed */
    size_t path_length; /* length of this folder's path with its final slash */
};

struct walk {
    struct root *root;
    int folder; /* descriptor of the deepest folder, to examine its files; -1 if it is not open */
    const chanserv_host *host;
    const struct globs *globs, *excluded;
    walk_entered *entered;
    void *context;
    /* Symbolic links that were left out. */
    size_t left_out;
    char *first_left_out;
    /* The folders from the root down. Their number is limited by the length of a path. */
    struct level *levels;
    size_t depth, capacity;
    bool begun; /* whether the root was entered */
    glob_state *next; /* buffer for globs_step */
    char path[PATH_MAX];
};

static void close_folder(struct walk *walk) {
    if (walk->folder >= 0) {
        close(walk->folder);
        walk->folder = -1;
    }
}

static void free_level(struct level *level) {
    if (level->listing != NULL) {
        closedir(level->listing);
    }
    names_free(&level->names);
    free(level->state);
}

static const char *shown_path(const struct walk *walk) {
    return *walk->path == '\0' ? "the root" : walk->path;
}

/* Whether a folder or file that cannot be opened or examined is skipped. Otherwise the walk fails. */
static bool is_skipped(const struct walk *walk, int code) {
    switch (code) {
    case ENOENT: /* removed since its name was read */
    case ESRCH:  /* returned by /proc */
    case ENOTDIR:
    case ELOOP: /* replaced by a symbolic link */
    case EXDEV:
    case ENAMETOOLONG:
        return true;
    case EACCES:
    case EPERM:
        log_line(walk->host, CHANSERV_LOG_INFO, "%s: skipped because it is not readable", shown_path(walk));
        return true;
    default:
        return false;
    }
}

static enum walk_result failed(const struct walk *walk, int code, const char *problem, chanserv_status *failure,
                               chanserv_error *error) {
    *failure = fail_errno(error, code, problem, shown_path(walk));
    return WALK_FAILED;
}

/* Adds the literal names that can match next. Looking them up is faster than listing the folder. */
static bool add_literals(struct walk *walk, struct level *level) {
    for (size_t i = 0; i < walk->globs->count; i++) {
        if ((level->state[i / 64] >> (i % 64) & 1) != 0 && !names_add(&level->names, walk->globs->parts[i].text)) {
            return false;
        }
    }
    return true;
}

/* Whether the folder is one of those that the walk is in, because of a link. */
static bool is_cycle(const struct walk *walk, const struct identity *is) {
    for (size_t i = 0; i < walk->depth; i++) {
        if (is_same_file(&walk->levels[i].is, is)) {
            return true;
        }
    }
    return false;
}

/* Enters the folder at walk->path. walk->next is the state of the patterns there. */
static enum walk_result enter(struct walk *walk, chanserv_status *failure, chanserv_error *error) {
    close_folder(walk);
    if (walk->depth == walk->capacity) {
        size_t capacity = walk->capacity == 0 ? 8 : walk->capacity * 2;
        struct level *grown = reallocarray(walk->levels, capacity, sizeof *grown);
        if (grown == NULL) {
            return failed(walk, ENOMEM, "no memory to list it", failure, error);
        }
        walk->levels = grown;
        walk->capacity = capacity;
    }
    size_t words = globs_words(walk->globs);
    struct level level = {.state = malloc(words * sizeof *level.state), .path_length = strlen(walk->path)};
    if (level.state == NULL) {
        return failed(walk, ENOMEM, "no memory to list it", failure, error);
    }
    memcpy(level.state, walk->next, words * sizeof *level.state);
    int followed = -1;
    if (walk->root->links > 0 || walk->entered != NULL) {
        followed = root_open(walk->root, walk->path, O_RDONLY | O_DIRECTORY);
        if (followed >= 0 && (identify(followed, &level.is) != 0 || is_cycle(walk, &level.is))) {
            close(followed);
            free_level(&level);
            return WALK_STEP;
        }
        if (followed >= 0 && walk->entered != NULL) {
            walk->entered(walk->context, followed);
        }
    }
    if (followed >= 0) {
        close(followed);
    }
    if (globs_only_literals(walk->globs, level.state)) {
        if (!add_literals(walk, &level)) {
            free_level(&level);
            return failed(walk, ENOMEM, "no memory to list it", failure, error);
        }
    } else {
        int opened = root_open(walk->root, walk->path, O_RDONLY | O_DIRECTORY);
        level.listing = opened < 0 ? NULL : fdopendir(opened);
        if (level.listing == NULL) {
            int code = errno;
            if (opened >= 0) {
                close(opened);
            }
            free_level(&level);
            return is_skipped(walk, code) ? WALK_STEP : failed(walk, code, "cannot be listed", failure, error);
        }
    }
    if (level.path_length > 0) {
        walk->path[level.path_length++] = '/';
        walk->path[level.path_length] = '\0';
    }
    walk->levels[walk->depth++] = level;
    return WALK_STEP;
}

/* Reads some entries. Keeps the names that match and the names of folders in which a file can match. */
static enum walk_result list(struct walk *walk, struct level *level, chanserv_status *failure, chanserv_error *error) {
    for (int i = 0; i < ENTRIES_PER_STEP; i++) {
        errno = 0;
        const struct dirent *entry = readdir(level->listing);
        if (entry == NULL) {
            int code = errno;
            closedir(level->listing);
            level->listing = NULL;
            return code == 0 || is_skipped(walk, code) ? WALK_STEP
                                                       : failed(walk, code, "cannot be listed", failure, error);
        }
        bool unknown = entry->d_type == DT_UNKNOWN || entry->d_type == DT_LNK;
        bool file = entry->d_type == DT_REG || unknown;
        bool folder = entry->d_type == DT_DIR || unknown;
        if ((!file && !folder) || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        bool deeper;
        bool matches = globs_step(walk->globs, level->state, entry->d_name, walk->next, &deeper);
        if (((file && matches) || (folder && deeper)) && !names_add(&level->names, entry->d_name)) {
            return failed(walk, ENOMEM, "no memory for its names", failure, error);
        }
    }
    return WALK_STEP;
}

static bool is_excluded(const struct walk *walk) {
    return globs_match_path(walk->excluded, walk->path);
}

/* Examines one name: returns a matching file, enters a folder. */
static enum walk_result visit(struct walk *walk, struct level *level, const char *name, struct stat *status,
                              chanserv_status *failure, chanserv_error *error) {
    size_t length = strlen(name);
    if (level->path_length + length + 2 > sizeof walk->path) {
        log_line(walk->host, CHANSERV_LOG_INFO, "%s%s: skipped because its path is too long", walk->path, name);
        return WALK_STEP;
    }
    bool deeper;
    bool matches = globs_step(walk->globs, level->state, name, walk->next, &deeper);
    if (walk->folder < 0) {
        walk->folder = root_open(walk->root, walk->path, O_PATH | O_DIRECTORY);
    }
    memcpy(walk->path + level->path_length, name, length + 1);
    if (walk->folder < 0 || fstatat(walk->folder, name, status, AT_SYMLINK_NOFOLLOW) != 0) {
        return is_skipped(walk, errno) ? WALK_STEP : failed(walk, errno, "cannot be examined", failure, error);
    }
    if (S_ISLNK(status->st_mode) && (matches || deeper)) {
        int target = walk->root->links == 0 ? -1 : root_open(walk->root, walk->path, O_PATH);
        bool followed = target >= 0 && fstat(target, status) == 0 && !S_ISLNK(status->st_mode);
        if (target >= 0) {
            close(target);
        }
        if (!followed) {
            if (walk->left_out++ == 0) {
                walk->first_left_out = strdup(walk->path);
            }
            log_line(walk->host, CHANSERV_LOG_DEBUG, "%s: left out: a symbolic link", walk->path);
            return WALK_STEP;
        }
    }
    if (S_ISDIR(status->st_mode) && deeper) {
        return enter(walk, failure, error);
    }
    return S_ISREG(status->st_mode) && matches && !(walk->excluded->count > 0 && is_excluded(walk)) ? WALK_FILE
                                                                                                     : WALK_STEP;
}

enum walk_result walk_step(struct walk *walk, const char **path, struct stat *status, chanserv_status *failure,
                           chanserv_error *error) {
    if (!walk->begun) {
        walk->begun = true;
        globs_start(walk->globs, walk->next);
        return enter(walk, failure, error);
    }
    if (walk->depth == 0) {
        return WALK_END;
    }
    struct level *level = &walk->levels[walk->depth - 1];
    walk->path[level->path_length] = '\0';
    if (level->listing != NULL) {
        return list(walk, level, failure, error);
    }
    char *name = names_take(&level->names);
    if (name == NULL) {
        close_folder(walk);
        free_level(level);
        walk->depth--;
        return WALK_STEP;
    }
    enum walk_result result = visit(walk, level, name, status, failure, error);
    free(name);
    *path = walk->path;
    return result;
}

void walk_rest(struct walk *walk) {
    close_folder(walk);
}

struct walk *walk_new(struct root *root, const struct globs *globs, const struct globs *excluded,
                      const chanserv_host *host) {
    struct walk *walk = calloc(1, sizeof *walk);
    glob_state *next = calloc(globs_words(globs), sizeof *next);
    if (walk == NULL || next == NULL) {
        free(walk);
        free(next);
        return NULL;
    }
    walk->root = root;
    walk->folder = -1;
    walk->host = host;
    walk->globs = globs;
    walk->excluded = excluded;
    walk->next = next;
    return walk;
}

static void leave_all(struct walk *walk) {
    close_folder(walk);
    while (walk->depth > 0) {
        free_level(&walk->levels[--walk->depth]);
    }
    free(walk->first_left_out);
    walk->first_left_out = NULL;
    walk->left_out = 0;
}

void walk_begin(struct walk *walk, walk_entered *entered, void *context) {
    leave_all(walk);
    walk->begun = false;
    walk->path[0] = '\0';
    walk->entered = entered;
    walk->context = context;
}

const char *walk_left_out(const struct walk *walk, size_t *count) {
    *count = walk->left_out;
    return walk->first_left_out;
}

void walk_free(struct walk *walk) {
    leave_all(walk);
    free(walk->levels);
    free(walk->next);
    free(walk);
}
