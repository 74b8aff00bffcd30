#define _GNU_SOURCE
#include "follow.h"

#include "fail.h"
#include "tracker.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#define FILE_EVENTS (IN_MODIFY | IN_ATTRIB)
#define FOLDER_EVENTS                                                                                                  \
    (IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

int64_t monotonic_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- Watches ---- */

static void warn_once(struct watcher *watcher, const char *call, int code) {
    if (!watcher->warned) {
        watcher->warned = true;
        char text[128];
        log_line(watcher->host, CHANSERV_LOG_WARNING,
                 "%s failed: %s: some changes of followed files are detected only once every follow_interval. Raise "
                 "fs.inotify.max_user_watches and fs.inotify.max_user_instances",
                 call, strerror_r(code, text, sizeof text));
    }
}

void watch_remove(struct watcher *watcher, struct watch *watch) {
    if (watch->number < 0) {
        return;
    }
    struct watch **bucket = &watcher->watches[(unsigned)watch->number % BUCKETS];
    *(watch->previous != NULL ? &watch->previous->next : bucket) = watch->next;
    if (watch->next != NULL) {
        watch->next->previous = watch->previous;
    }
    bool shared = false;
    for (struct watch *other = *bucket; other != NULL; other = other->next) {
        shared |= other->number == watch->number;
    }
    if (!shared) {
        /* Fails if the file is gone, and its watch with it. Watch descriptors are not reused. */
        (void)inotify_rm_watch(watcher->inotify, watch->number);
    }
    watch->number = -1;
}

void watch_add(struct watcher *watcher, struct watch *watch, int file) {
    watch_remove(watcher, watch);
    if (watcher->inotify < 0) {
        return;
    }
    /* Watches the open file, even if its name refers to another file now. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
#ifdef FILES_WITHOUT_WATCHES /* for tests */
    errno = ENOSPC;
#else
    watch->number = inotify_add_watch(watcher->inotify, path, watch->folder ? FOLDER_EVENTS : FILE_EVENTS);
#endif
    if (watch->number < 0) {
        if (errno == ENOSPC || errno == ENOMEM) {
            warn_once(watcher, "inotify_add_watch", errno);
        }
        return;
    }
    struct watch **bucket = &watcher->watches[(unsigned)watch->number % BUCKETS];
    watch->previous = NULL;
    watch->next = *bucket;
    if (*bucket != NULL) {
        (*bucket)->previous = watch;
    }
    *bucket = watch;
}

/* ---- Events ---- */

void tracker_mark(struct tracker *tracker) {
    if (!tracker->dirty) {
        tracker->dirty = true;
        tracker->next_dirty = tracker->watcher->dirty;
        tracker->watcher->dirty = tracker;
    }
}

static void wake_request(struct watcher *watcher, struct folder_watch *request) {
    request->changed = true;
    if (request->waiting) {
        request->waiting = false;
        watcher->host->wake(watcher->host, request->wake);
    }
}

static void handle_event(struct watcher *watcher, const struct inotify_event *event) {
    watcher->events++;
    if (event->wd < 0) {
        /* The kernel had to drop reports. */
        for (struct tracker *tracker = watcher->trackers; tracker != NULL; tracker = tracker->next) {
            tracker->scans = true;
            tracker_mark(tracker);
        }
        for (struct folder_watch *request = watcher->requests; request != NULL; request = request->next) {
            wake_request(watcher, request);
        }
        return;
    }
    for (struct watch *watch = watcher->watches[(unsigned)event->wd % BUCKETS]; watch != NULL; watch = watch->next) {
        if (watch->number != event->wd) {
            continue;
        }
        if (watch->request != NULL) {
            if ((event->mask & (IN_CREATE | IN_MOVED_TO | IN_ATTRIB)) != 0) {
                wake_request(watcher, watch->request);
            }
        } else if (watch->folder && event->len > 0) {
            tracker_event(watch->tracker, event->mask, event->cookie, event->name);
        } else {
            tracker_mark(watch->tracker);
        }
    }
}

bool watcher_drain(struct watcher *watcher) {
    _Alignas(struct inotify_event) char buffer[16384];
    bool any = false;
    for (;;) {
        ssize_t size = watcher->inotify < 0 ? -1 : read(watcher->inotify, buffer, sizeof buffer);
        if (size <= 0) {
            return any;
        }
        any = true;
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            handle_event(watcher, event);
            at += sizeof *event + event->len;
        }
    }
}

static void wake_followers(struct tracker *tracker, const struct follower *except) {
    struct watcher *watcher = tracker->watcher;
    for (struct follower *follower = tracker->followers; follower != NULL; follower = follower->next) {
        if (follower->waiting && follower != except) {
            follower->waiting = false;
            watcher->host->wake(watcher->host, follower->wake);
        }
    }
}

/* Processes all reports and brings the trackers that they concern up to date. */
static void process(struct watcher *watcher, const struct follower *except) {
    watcher_drain(watcher);
    while (watcher->dirty != NULL) {
        struct tracker *tracker = watcher->dirty;
        watcher->dirty = tracker->next_dirty;
        tracker->dirty = false;
        tracker_update(tracker);
        wake_followers(tracker, except);
    }
}

/* ---- Trackers ---- */

static size_t bucket_of(const char *path) {
    uint32_t hash = 2166136261u;
    for (; *path != '\0'; path++) {
        hash = (hash ^ (unsigned char)*path) * 16777619u;
    }
    return hash % BUCKETS;
}

static void remove_tracker(struct watcher *watcher, struct tracker *tracker) {
    if (tracker->dirty) {
        struct tracker **at = &watcher->dirty;
        while (*at != tracker) {
            at = &(*at)->next_dirty;
        }
        *at = tracker->next_dirty;
    }
    struct tracker **at = &watcher->by_path[bucket_of(tracker->path)];
    while (*at != tracker) {
        at = &(*at)->bucket_next;
    }
    *at = tracker->bucket_next;
    if (watcher->cursor == tracker) {
        watcher->cursor = tracker->next;
    }
    *(tracker->previous != NULL ? &tracker->previous->next : &watcher->trackers) = tracker->next;
    if (tracker->next != NULL) {
        tracker->next->previous = tracker->previous;
    }
    watcher->uses--;
    tracker_free(tracker);
}

static void wake_thread(struct watcher *watcher) {
    uint64_t one = 1;
    /* The write fails only if the counter is full. The thread is awake then. */
    ssize_t written = write(watcher->wake_event, &one, sizeof one);
    (void)written;
}

static void add_use(struct watcher *watcher) {
    watcher->uses++;
    if (watcher->idle) {
        watcher->idle = false;
        wake_thread(watcher);
    }
}

static struct tracker *find_tracker(struct watcher *watcher, struct root *root, const char *path) {
    struct tracker **bucket = &watcher->by_path[bucket_of(path)];
    for (struct tracker *tracker = *bucket; tracker != NULL; tracker = tracker->bucket_next) {
        if (strcmp(tracker->path, path) == 0 && is_same_file(&tracker->root->is, &root->is)) {
            return tracker;
        }
    }
    struct tracker *tracker = tracker_new(watcher, root, path);
    if (tracker == NULL) {
        return NULL;
    }
    tracker->bucket_next = *bucket;
    *bucket = tracker;
    tracker->next = watcher->trackers;
    if (tracker->next != NULL) {
        tracker->next->previous = tracker;
    }
    watcher->trackers = tracker;
    add_use(watcher);
    tracker_tick(tracker);
    return tracker;
}

/* Checks all trackers. The lock is released after each, so that other threads wait for one check at most. */
static void check_all(struct watcher *watcher) {
    pthread_mutex_lock(&watcher->lock);
    watcher->cursor = watcher->trackers;
    int64_t now = monotonic_now();
    for (struct folder_watch *request = watcher->requests; request != NULL; request = request->next) {
        wake_request(watcher, request);
    }
    while (watcher->cursor != NULL && !watcher->stopping) {
        struct tracker *tracker = watcher->cursor;
        watcher->cursor = tracker->next;
        if (tracker->followers == NULL && now - tracker->idle_since >= watcher->limits.window) {
            remove_tracker(watcher, tracker);
        } else {
            process(watcher, NULL);
            uint64_t before = watcher->events;
            tracker_tick(tracker);
            if (watcher->events != before || tracker->retry) {
                tracker->retry = false;
                wake_followers(tracker, NULL);
            }
        }
        pthread_mutex_unlock(&watcher->lock);
        pthread_mutex_lock(&watcher->lock);
    }
    watcher->cursor = NULL;
    pthread_mutex_unlock(&watcher->lock);
}

static void *run(void *argument) {
    struct watcher *watcher = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    int64_t due = monotonic_now() + watcher->limits.interval;
    for (;;) {
        pthread_mutex_lock(&watcher->lock);
        process(watcher, NULL);
        bool stopping = watcher->stopping;
        bool idle = watcher->idle = watcher->uses == 0;
        pthread_mutex_unlock(&watcher->lock);
        if (stopping) {
            return NULL;
        }
        int64_t left = due - monotonic_now();
        if (!idle && left <= 0) {
            check_all(watcher);
            due = monotonic_now() + watcher->limits.interval;
            continue;
        }
        struct pollfd files[] = {{.fd = watcher->wake_event, .events = POLLIN},
                                 {.fd = watcher->inotify, .events = POLLIN}};
        struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        if (ppoll(files, 2, idle ? NULL : &timeout, NULL) <= 0) {
            continue;
        }
        if (files[0].revents != 0) {
            uint64_t count;
            ssize_t taken = read(watcher->wake_event, &count, sizeof count);
            (void)taken;
            if (idle) {
                due = monotonic_now() + watcher->limits.interval;
            }
        }
    }
}

/* ---- Functions for sources ---- */

/* Makes the reader begin with the follower's generation at `offset`. */
static void load(struct follower *follower, struct reader *reader, off_t offset) {
    const struct generation *at = follower->at;
    reader->known = true;
    reader->is = at->is;
    reader->offset = offset;
    reader->scanned = 0;
    reader->examined = 0;
    reader->skipping = false;
    reader->anchor_size = 0;
    reader->hole_end = at->truncated ? 0 : -1;
    content_drop(&reader->content);
    reader->content.compression = at->compression;
}

static void close_reader(struct follower *follower, struct reader *reader) {
    reader->content.file = -1;
    if (follower->file != NULL) {
        shared_release(follower->file);
        follower->file = NULL;
    }
}

chanserv_status watcher_follow(struct watcher *watcher, struct follower *follower, struct root *root, const char *path,
                               const struct resume *resume, struct reader *reader, chanserv_error *error) {
    pthread_mutex_lock(&watcher->lock);
    process(watcher, NULL);
    struct tracker *tracker = find_tracker(watcher, root, path);
    if (tracker == NULL) {
        pthread_mutex_unlock(&watcher->lock);
        return fail(error, CHANSERV_ERROR_BUSY, "%s: no memory to follow it", path);
    }
    tracker_update(tracker);
    wake_followers(tracker, NULL);
    off_t offset = 0;
    struct generation *at = NULL;
    chanserv_status status = CHANSERV_READY;
    if (resume != NULL) {
        at = tracker_find(tracker, resume, &offset);
        bool first = resume->stream == tracker->stream && resume->number == tracker->next_number && resume->offset == 0;
        if (at == NULL && !first) {
            status = fail(error, CHANSERV_ERROR_NOT_FOUND,
                          "%s: cannot resume: the file with inode %" PRIu64
                          " is gone, or the position is behind its end; request the file without a position",
                          path, resume->inode);
        }
    } else {
        for (size_t i = 0; i < tracker->count; i++) {
            at = tracker->generations[i]->known ? tracker->generations[i] : at;
        }
    }
    if (status == CHANSERV_READY) {
        follower->tracker = tracker;
        follower->at = at;
        follower->previous = NULL;
        follower->next = tracker->followers;
        if (follower->next != NULL) {
            follower->next->previous = follower;
        }
        tracker->followers = follower;
        reader->followed = true;
        if (at != NULL) {
            load(follower, reader, offset);
        } else {
            status = CHANSERV_PENDING;
        }
    } else if (tracker->followers == NULL) {
        tracker->idle_since = monotonic_now();
    }
    pthread_mutex_unlock(&watcher->lock);
    return status;
}

void watcher_forget(struct watcher *watcher, struct follower *follower) {
    struct tracker *tracker = follower->tracker;
    if (tracker == NULL) {
        return;
    }
    pthread_mutex_lock(&watcher->lock);
    *(follower->previous != NULL ? &follower->previous->next : &tracker->followers) = follower->next;
    if (follower->next != NULL) {
        follower->next->previous = follower->previous;
    }
    if (follower->file != NULL) {
        shared_release(follower->file);
    }
    if (tracker->followers == NULL) {
        tracker->idle_since = monotonic_now();
        if (watcher->limits.window == 0) {
            remove_tracker(watcher, tracker);
        }
    }
    follower->tracker = NULL;
    pthread_mutex_unlock(&watcher->lock);
}

/* Finds what the follower can read. Called with the lock held. */
static enum next_result next(struct follower *follower, struct reader *reader) {
    struct tracker *tracker = follower->tracker;
    for (;;) {
        struct generation *at = follower->at;
        if (at == NULL) {
            at = tracker_next(tracker, NULL);
            if (at == NULL) {
                errno = tracker->denied;
                return tracker->denied != 0 ? NEXT_DENIED : NEXT_WAIT;
            }
            follower->at = at;
            load(follower, reader, 0);
        }
        if (follower->moved) {
            follower->moved = false;
            close_reader(follower, reader);
            load(follower, reader, 0);
        }
        if (follower->file != NULL && follower->version != at->version) {
            close_reader(follower, reader); /* its rest is in a copy now */
        }
        off_t end = reader->scanned > reader->offset ? reader->scanned : reader->offset;
        bool unknown = at->compression != COMPRESSION_NONE && at->end < 0;
        off_t limit = unknown ? INT64_MAX : at->sealed ? at->end : at->size;
        end = reader->examined > end ? reader->examined : end;
        bool more = end < limit || (at->sealed && reader->offset < limit);
        if (more && !at->lost) {
            if (follower->file == NULL) {
                follower->file = tracker_open(tracker, at);
                follower->version = at->version;
            }
            if (follower->file != NULL) {
                reader->content.file = follower->file->file;
                if (reader->content.compression != at->compression) {
                    content_drop(&reader->content);
                    reader->content.compression = at->compression;
                }
                reader->limit = limit;
                reader->head_size = at->head_size;
                memcpy(reader->head, at->head, at->head_size);
                return at->sealed && end >= limit ? NEXT_WHOLE : NEXT_DATA;
            }
            if (!at->sealed) {
                return NEXT_WAIT; /* its name refers to no readable file now */
            }
            if (errno != ENOENT && errno != ESTALE && errno != ENOTDIR && errno != ELOOP) {
                tracker->retry = true; /* for example too many open files */
                return NEXT_WAIT;
            }
            at->lost = true;
        }
        if (!at->sealed) {
            return NEXT_WAIT;
        }
        struct generation *following = tracker_next(tracker, at);
        if (following == NULL) {
            return NEXT_WAIT;
        }
        if (more && at->lost) {
            tracker_lose(tracker, reader->offset == 0 ? 1 : 0, unknown ? 0 : (uint64_t)(limit - reader->offset));
        }
        close_reader(follower, reader);
        off_t rest = !unknown && reader->offset > limit ? reader->offset - limit : 0;
        follower->at = following;
        load(follower, reader, rest);
    }
}

enum next_result watcher_next(struct watcher *watcher, struct follower *follower, struct reader *reader, bool changed,
                              uint64_t wake) {
    pthread_mutex_lock(&watcher->lock);
    process(watcher, follower);
    struct tracker *tracker = follower->tracker;
    uint64_t before = watcher->events;
    if (changed && follower->at != NULL) {
        struct generation *at = follower->at;
        if (follower->version != at->version || follower->moved) {
            /* Its rest is in a copy since this poll began. */
        } else if (at->sealed && !at->lost) {
            /* The copy is not what was read before. */
            close_reader(follower, reader);
            at->end = at->end < 0 ? reader->offset : at->end; /* of a compressed one the rest is not known */
            tracker_lose(tracker, 0, at->end > reader->offset ? (uint64_t)(at->end - reader->offset) : 0);
            reader->offset = reader->scanned = at->end;
            reader->anchor_size = 0;
        } else {
            tracker_changed(tracker, at);
            close_reader(follower, reader);
        }
    }
    tracker_update(tracker);
    if (watcher->events != before) {
        wake_followers(tracker, follower);
    }
    enum next_result result = next(follower, reader);
    if (result == NEXT_WAIT) {
        follower->waiting = true;
        follower->wake = wake;
    }
    pthread_mutex_unlock(&watcher->lock);
    return result;
}

void watcher_reached_end(struct watcher *watcher, struct follower *follower, struct reader *reader) {
    pthread_mutex_lock(&watcher->lock);
    if (follower->moved || follower->version != follower->at->version) {
        pthread_mutex_unlock(&watcher->lock);
        return;
    }
    if (follower->at->end < 0) {
        follower->at->end = content_length(&reader->content);
    }
    pthread_mutex_unlock(&watcher->lock);
}

void watcher_rest(struct watcher *watcher, struct follower *follower, struct reader *reader) {
    pthread_mutex_lock(&watcher->lock);
    close_reader(follower, reader);
    pthread_mutex_unlock(&watcher->lock);
}

void watcher_disarm(struct watcher *watcher, struct follower *follower) {
    pthread_mutex_lock(&watcher->lock);
    follower->waiting = false;
    pthread_mutex_unlock(&watcher->lock);
}

void watcher_skipped(struct watcher *watcher, struct follower *follower, off_t from, off_t size, const char *reason) {
    pthread_mutex_lock(&watcher->lock);
    struct generation *at = follower->at;
    bool known = follower->moved;
    for (size_t i = 0; i < at->skips && !known; i++) {
        off_t end = at->skip[i].from + at->skip[i].size;
        if (from >= at->skip[i].from && from <= end) {
            known = from + size <= end;
            if (!known) {
                at->skip[i].size = from + size - at->skip[i].from;
            }
            from = at->skip[i].from;
            break;
        }
    }
    if (!known) {
        if (at->skips < SKIPS_MAX && (at->skips == 0 || from > at->skip[at->skips - 1].from)) {
            at->skip[at->skips].from = from;
            at->skip[at->skips++].size = size;
        }
        log_line(watcher->host, CHANSERV_LOG_WARNING, "%s: skipped %jd bytes at byte %jd: %s", follower->tracker->path,
                 (intmax_t)size, (intmax_t)from, reason);
    }
    pthread_mutex_unlock(&watcher->lock);
}

struct resume watcher_position(struct watcher *watcher, const struct follower *follower, off_t offset) {
    pthread_mutex_lock(&watcher->lock);
    struct resume position = {.stream = follower->tracker->stream, .number = follower->tracker->next_number};
    if (follower->at != NULL) {
        position.inode = follower->at->is.inode;
        position.number = follower->at->number;
        position.offset = offset;
        /* Clients count the bytes that they have received. */
        for (size_t i = 0; i < follower->at->skips && follower->at->skip[i].from < offset; i++) {
            position.offset -= follower->at->skip[i].size;
        }
    }
    pthread_mutex_unlock(&watcher->lock);
    return position;
}

/* ---- Requests ---- */

void watcher_add_request(struct watcher *watcher, struct folder_watch *request) {
    pthread_mutex_lock(&watcher->lock);
    *request = (struct folder_watch){.next = watcher->requests};
    if (request->next != NULL) {
        request->next->previous = request;
    }
    watcher->requests = request;
    add_use(watcher);
    pthread_mutex_unlock(&watcher->lock);
}

void watcher_watch_folder(struct watcher *watcher, struct folder_watch *request, int folder) {
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

bool watcher_arm_request(struct watcher *watcher, struct folder_watch *request, uint64_t wake) {
    pthread_mutex_lock(&watcher->lock);
    process(watcher, NULL);
    request->waiting = !request->changed;
    request->changed = false;
    request->wake = wake;
    bool waits = request->waiting;
    pthread_mutex_unlock(&watcher->lock);
    return waits;
}

void watcher_remove_request(struct watcher *watcher, struct folder_watch *request) {
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

bool watcher_knows(struct watcher *watcher, const struct identity *file) {
    bool known = false;
    pthread_mutex_lock(&watcher->lock);
    process(watcher, NULL);
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

/* ---- Start and stop ---- */

struct watcher *watcher_start(const chanserv_host *host, const struct follow_limits *limits, chanserv_error *error) {
    struct watcher *watcher = calloc(1, sizeof *watcher);
    if (watcher == NULL) {
        fail(error, CHANSERV_ERROR_INTERNAL, "no memory to follow files");
        return NULL;
    }
    watcher->host = host;
    watcher->limits = *limits;
    watcher->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watcher->wake_event < 0) {
        fail_errno(error, errno, "no descriptor to follow files", "eventfd");
        free(watcher);
        return NULL;
    }
    watcher->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watcher->inotify < 0) {
        warn_once(watcher, "inotify_init", errno);
    }
    pthread_mutex_init(&watcher->lock, NULL);
    int code = pthread_create(&watcher->thread, NULL, run, watcher);
    if (code != 0) {
        fail_errno(error, code, "no thread to follow files", "pthread_create");
        pthread_mutex_destroy(&watcher->lock);
        close(watcher->wake_event);
        if (watcher->inotify >= 0) {
            close(watcher->inotify);
        }
        free(watcher);
        return NULL;
    }
    return watcher;
}

void watcher_stop(struct watcher *watcher) {
    pthread_mutex_lock(&watcher->lock);
    watcher->stopping = true;
    pthread_mutex_unlock(&watcher->lock);
    wake_thread(watcher);
    pthread_join(watcher->thread, NULL);
    while (watcher->trackers != NULL) {
        remove_tracker(watcher, watcher->trackers);
    }
    pthread_mutex_destroy(&watcher->lock);
    close(watcher->wake_event);
    if (watcher->inotify >= 0) {
        close(watcher->inotify);
    }
    free(watcher);
}
