/*
 * Files: serves the contents of files as streams.
 *
 * Request
 * -------
 *
 * Text: one or more glob patterns, one in each line (\n or \r\n; empty lines are skipped), relative to `root`. At most
 * 64 KiB, 1,024 patterns, 128 components each. patterns/glob.h lists the syntax: `*`, `?`, `[a-z]`, `[!a-z]`, `{a,b}`,
 * `\x`, and `**` for any number of folders. A name that begins with a dot matches only a component that begins with a
 * dot. A line that begins with `!` leaves out the files that match. A pattern that is absolute, has a component `..`,
 * ends with `/` or cannot be parsed is a bad request.
 *
 * The first line may have options as a JSON object; request/options.h lists them.
 *
 * Answer
 * ------
 *
 * One source for each matching regular file, in the order of a sorted walk through the folders (by bytes, component by
 * component). A file that matches several patterns has one source. A request without a match has no sources; this is
 * not an error, unless it has left out symbolic links. Symbolic links below the root are followed only if they lead
 * into a folder of `follow_links`. Nothing outside of these folders is ever opened. Fifos, sockets and devices are
 * skipped. Folders that are not readable are skipped with a log message.
 *
 * The header is a JSON object, with the size and the modification time (UTC) of the file when it was found:
 *
 *     {"path":"nginx/access.log","size":1234,"mtime":"2025-01-31T12:34:56.123456789Z"}
 *
 * In a path that is not UTF-8, U+FFFD replaces each invalid byte, and "path_base64" has the original bytes. If the file
 * is followed or the request has options, "inode" and "offset" are the position at which the source begins; with both,
 * "stream" makes it exact. After the client has added the number of bytes that it has received to "offset", the header
 * is a position for `resume`.
 *
 * The frames of a file concatenate to the file. A file is opened when its first frame is requested. If it has been
 * removed by then, or is replaced or truncated while it is read, its source ends with an error. Data that is appended
 * while the file is read is included. A line longer than 100 MiB, the maximum of a frame, ends the source with an
 * error.
 *
 * With `follow` a source does not end. following/watching/watcher.h describes how it continues across rotations and
 * truncations.
 * Lines are sent when their line ending has arrived; an incomplete last line of a rotated file is sent as it is. A line
 * longer than 100 MiB, and a hole that a truncation left, are skipped with a warning. Chunks are sent as soon as there
 * is any data, so they may be smaller than chunk_size. With `new_files` the list of sources does not end either: files
 * that begin to match get sources.
 *
 * Configuration
 * -------------
 *
 *   key              type      default   meaning
 *   root             path      required  the folder below which files are served; may itself be a symbolic link,
 *                                        which is resolved for each request
 *   unit             string    lines     content of a frame: `lines` (up to and with \n) or `chunks` (chunk_size bytes)
 *   chunk_size       size      64KiB     size of a chunk, 1 to 100MiB; the last chunk of a file may be smaller
 *   strip            boolean   false     removes the line ending, \n or \r\n; only with `unit: lines`
 *   decompress       boolean   false     sends the content of .gz and .zst files
 *   follow_links     paths     none      symbolic links into these folders are followed
 *   follow           boolean   false     continues at the end of a file like `tail -F`
 *   new_files        boolean   false     with `follow`: also sends files that begin to match later
 *   follow_interval  duration  1s        10ms to 1h: maximum delay of changes that the kernel does not report at once:
 *                                        another file has taken the name, writes through a memory map, and writes on
 *                                        another machine
 *   resume_window    duration  30s       0s to 1h: how long rotated files stay open for clients that resume
 *   open_files       integer   256       maximum files that an instance keeps open between polls, 0 to 1,000,000. Other
 *                                        files are opened again in each poll, which is slower. With `follow`, data that
 *                                        was written to them just before a rotation may be lost
 *
 * Blocking
 * --------
 *
 * Reading a regular file blocks until the disk has delivered the data, and a poll may take that long. A poll reads at
 * most 1 MiB, or one line or chunk if that is larger. It uses 64 KiB of memory and the host's outgoing buffer, whatever
 * the size of the file. A chunk of 64 KiB or more has its own memory, which is lent to the host.
 */
#include "chanserv_plugin.h"
#include "configuration.h"
#include "fail.h"
#include "reading/source.h"
#include "request/call.h"

#include <stdlib.h>

static chanserv_status files_create(const chanserv_host *host, const chanserv_config *config,
                                    chanserv_instance **instance, chanserv_error *error) {
    chanserv_instance *files = calloc(1, sizeof *files);
    if (files == NULL) {
        return fail(error, CHANSERV_ERROR_INTERNAL, "no memory");
    }
    files->host = host;
    pthread_mutex_init(&files->roots.lock, NULL);
    chanserv_status status = configuration_read(files, config, error);
    if (status != CHANSERV_READY) {
        roots_free(&files->roots);
        free(files);
        return status;
    }
    *instance = files;
    return CHANSERV_READY;
}

static void files_destroy(chanserv_instance *files) {
    if (files->watcher != NULL) {
        watcher_stop(files->watcher);
    }
    roots_free(&files->roots);
    free(files);
}


static const chanserv_plugin files_plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    .flags = 0,
    .name = "files",
    .version = "1.0.0",
    .create = files_create,
    .destroy = files_destroy,
    .open = call_open,
    .poll_sources = call_poll,
    .cancel_call = call_cancel,
    .close_call = call_close,
    .poll_frames = source_poll,
    .cancel_source = source_cancel,
    .close_source = source_close,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) {
    return &files_plugin;
}
