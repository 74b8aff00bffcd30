/*
 * A request: options as one JSON object in its first line, which may be absent, and patterns.
 *
 *   option      value              meaning
 *   follow      boolean            false: do not wait for new data, whatever the configuration says
 *   new_files   boolean            also send files that begin to match while the request follows
 *   decompress  boolean            send the content of .gz and .zst files
 *   tail        number             begin with the last lines, 0 to 1,000,000; 0: at the end
 *   resume      list of positions  begin at {"path":…,"inode":…,"offset":…,"stream":…}
 */
#ifndef FILES_OPTIONS_H
#define FILES_OPTIONS_H

#include "chanserv_plugin.h"
#include "following/position.h"

#include <stdbool.h>
#include <stddef.h>

#define TAIL_MAX 1000000
/* Maximum bytes of the options, and maximum positions. */
#define OPTIONS_SIZE_MAX ((size_t)1 << 20)
#define RESUMES_MAX 4096

struct options {
    bool given; /* the request has options: headers have positions */
    bool follow, new_files, decompress;
    int64_t tail; /* -1: from the beginning */
    size_t resumes;
    struct resume *resume;
};

/*
 * Reads the options of a request into *options, which has the defaults of the configuration. Sets *used to the number
 * of bytes of the line. Returns CHANSERV_READY, or an error and a message; after an error there is nothing to free.
 */
chanserv_status options_parse(struct options *options, const char *body, size_t size, size_t *used,
                              chanserv_error *error);
void options_free(struct options *options);
/* Returns the position for a file; NULL if there is none. */
const struct resume *options_resume(const struct options *options, const char *path);

#endif
