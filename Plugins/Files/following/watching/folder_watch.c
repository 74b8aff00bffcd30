#include "following/watching/folder_watch.h"

#include "following/tracking/tracker.h"
#include "following/watching/watcher_state.h"

void folder_watch_begin(struct watcher *watcher, struct folder_watch *request) {
    pthread_mutex_lock(&watcher->lock);
    *request = (struct folder_watch){.next = watcher->requests};
    if (request->next != NULL) {
        request->next->previous = request;
    }
    watcher->requests = request;
    watcher_add_use(watcher);
    pthread_mutex_unlock(&watcher->lock);
}

void folder_watch_add(struct watcher *watcher, struct folder_watch *request, int folder) {
    pthread_mutex_lock(&watcher->lock);
    if (request->count < FOLDERS_MAX) {
        struct watch *watch = &request->watches[request->count];
        *watch = (struct watch){.number = -1, .request = request, .folder = true};
        watch_add(watcher, watch, folder);
        for (size_t i = 0; i < request->count; i++) {
            if (watch->number >= 0 && request->watches[i].number == watch->number) {
                watch_remove(watcher, watch);
            }
        }
        request->count += watch->number >= 0;
    }
    pthread_mutex_unlock(&watcher->lock);
}

bool folder_watch_arm(struct watcher *watcher, struct folder_watch *request, uint64_t wake) {
    pthread_mutex_lock(&watcher->lock);
    watcher_process(watcher, NULL);
    request->waiting = !request->changed;
    request->changed = false;
    request->wake = wake;
    bool waits = request->waiting;
    pthread_mutex_unlock(&watcher->lock);
    return waits;
}

void folder_watch_end(struct watcher *watcher, struct folder_watch *request) {
    pthread_mutex_lock(&watcher->lock);
    for (size_t i = 0; i < request->count; i++) {
        watch_remove(watcher, &request->watches[i]);
    }
    *(request->previous != NULL ? &request->previous->next : &watcher->requests) = request->next;
    if (request->next != NULL) {
        request->next->previous = request->previous;
    }
    watcher->uses--;
    pthread_mutex_unlock(&watcher->lock);
}

void folder_watch_wake(struct watcher *watcher, struct folder_watch *request) {
    request->changed = true;
    if (request->waiting) {
        request->waiting = false;
        watcher->host->wake(watcher->host, request->wake);
    }
}

bool folder_watch_knows(struct watcher *watcher, const struct identity *file) {
    bool known = false;
    pthread_mutex_lock(&watcher->lock);
    watcher_process(watcher, NULL);
    for (struct tracker *tracker = watcher->trackers; tracker != NULL && !known; tracker = tracker->next) {
        for (size_t i = 0; tracker->followers != NULL && i < tracker->count && !known; i++) {
            known = tracker->generations[i]->known && is_same_file(&tracker->generations[i]->is, file);
        }
        for (size_t i = 0; tracker->followers != NULL && i < tracker->copy_count && !known; i++) {
            known = tracker->copies[i]->known && is_same_file(&tracker->copies[i]->is, file);
        }
    }
    pthread_mutex_unlock(&watcher->lock);
    return known;
}
