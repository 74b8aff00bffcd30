/* Folders in which a request expects new matches. */
#ifndef FILES_FOLDER_WATCH_H
#define FILES_FOLDER_WATCH_H

#include "folders/beneath.h"
#include "following/watching/watch.h"

#include <stddef.h>
#include <stdint.h>

/* Maximum folders of a request that are watched; further ones are checked in every interval only. */
#define FOLDERS_MAX 256

/*
 * The folders of one request, whose `wake` is called when a name appears in one of them, and once in every interval.
 * `changed` is set from a report until the request is armed again, so that no report between two walks is missed.
 */
struct folder_watch {
    struct folder_watch *next, *previous;
    uint64_t wake;
    bool waiting, changed;
    size_t count;
    struct watch watches[FOLDERS_MAX];
};

void folder_watch_begin(struct watcher *watcher, struct folder_watch *request);
void folder_watch_add(struct watcher *watcher, struct folder_watch *request, int folder);
/* Makes the request wait. Returns false if something has changed since the last call: then it does not wait. */
bool folder_watch_arm(struct watcher *watcher, struct folder_watch *request, uint64_t wake);
void folder_watch_end(struct watcher *watcher, struct folder_watch *request);
/* Whether the file is a generation of a path that is followed, or may be the copy of one. */
bool folder_watch_knows(struct watcher *watcher, const struct identity *file);

/* Reports a change. Called with the watcher's lock held. */
void folder_watch_wake(struct watcher *watcher, struct folder_watch *request);

#endif
