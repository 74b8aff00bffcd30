// Made by scripts/embed of the files that it names: change those, and run it.
// swift-format-ignore-file

/// The files that new plugins begin with, so that the command needs none beside it.
enum EmbeddedFiles {
    /// By language and path.
    static let templates: [String: String] = [
"c/PLUGIN.c": ###"""
/*
 * {{name}}: a source for each word of the request, with one frame that greets it.
 *
 * Configuration: `greeting`, a text, "Hello" by default.
 *
 * include/chanserv_plugin.h says for each function who calls it, from which thread, and who frees what.
 */
#include "chanserv_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One for each route that is configured differently. */
struct chanserv_instance {
    char *greeting;
};

/* One request: its text, and how far it was split into words. */
struct chanserv_call {
    const chanserv_instance *instance;
    size_t next, size;
    char text[];
};

/* One word. */
struct chanserv_source {
    const chanserv_instance *instance;
    int sent;
    size_t size;
    char word[];
};

static chanserv_status fail(chanserv_error *error, chanserv_status status, const char *message) {
    snprintf(error->message, error->capacity, "%s", message);
    return status;
}

static chanserv_status create(const chanserv_host *host, const chanserv_config *config,
                              chanserv_instance **instance, chanserv_error *error) {
    /* Any other key is a mistake, and is reported as one. */
    static const char *const known[] = {"greeting"};
    chanserv_status status = host->config_only(host, config, known, 1, error);
    if (status < 0) return status;

    const char *greeting = "Hello";
    size_t size = strlen(greeting);
    status = host->config_string(host, config, "greeting", &greeting, &size, error);
    if (status < 0 && status != CHANSERV_ERROR_NOT_FOUND) return status;

    *instance = malloc(sizeof **instance);
    char *copy = malloc(size + 1); /* the host's text lives until this function returns */
    if (*instance == NULL || copy == NULL) {
        free(*instance);
        free(copy);
        return fail(error, CHANSERV_ERROR_INTERNAL, "out of memory");
    }
    memcpy(copy, greeting, size);
    copy[size] = 0;
    (*instance)->greeting = copy;
    return CHANSERV_READY;
}

static void destroy(chanserv_instance *instance) {
    free(instance->greeting);
    free(instance);
}

static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request,
                                 chanserv_call **call, chanserv_error *error) {
    *call = malloc(sizeof **call + request->body_size);
    if (*call == NULL) return fail(error, CHANSERV_ERROR_INTERNAL, "out of memory");
    (*call)->instance = instance;
    (*call)->next = 0;
    (*call)->size = request->body_size;
    memcpy((*call)->text, request->body, request->body_size); /* the request is gone when this function returns */
    return CHANSERV_READY;
}

static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    for (;;) {
        while (call->next < call->size && call->text[call->next] == ' ') call->next++;
        size_t end = call->next;
        while (end < call->size && call->text[end] != ' ') end++;
        size_t size = end - call->next;
        if (size == 0) return CHANSERV_END;

        chanserv_source *source = malloc(sizeof *source + size);
        if (source == NULL) return fail(error, CHANSERV_ERROR_INTERNAL, "out of memory");
        source->instance = call->instance;
        source->sent = 0;
        source->size = size;
        memcpy(source->word, call->text + call->next, size);
        chanserv_status status = sink->add(sink, source->word, size, source);
        if (status != CHANSERV_READY) {
            free(source); /* not taken, so it is still ours; where the sink is full the host asks again */
            return status == CHANSERV_FULL ? CHANSERV_READY : status;
        }
        call->next = end;
    }
}

static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    (void)error;
    if (!source->sent) {
        /* The frame is made in the host's buffer. Where its length is known and it is there already, `append` does. */
        size_t greeting = strlen(source->instance->greeting), capacity;
        char *frame = sink->reserve(sink, greeting + source->size + 3, &capacity);
        if (frame == NULL) return CHANSERV_READY; /* no room beside other frames: the host asks again */
        memcpy(frame, source->instance->greeting, greeting);
        memcpy(frame + greeting, ", ", 2);
        memcpy(frame + greeting + 2, source->word, source->size);
        frame[greeting + 2 + source->size] = '!';
        chanserv_status status = sink->commit(sink, greeting + source->size + 3);
        if (status != CHANSERV_READY) return status;
        source->sent = 1;
    }
    return CHANSERV_END;
}

/* No poll ever waits, so there is nothing to hurry up. */
static void cancel_call(chanserv_call *call) { (void)call; }
static void cancel_source(chanserv_source *source) { (void)source; }

static void close_call(chanserv_call *call) { free(call); }
static void close_source(chanserv_source *source) { free(source); }

static const chanserv_plugin plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .flags = 0, /* CHANSERV_PLUGIN_INLINE where every function returns within microseconds, see the header */
    .struct_size = sizeof(chanserv_plugin),
    .name = "{{name}}",
    .version = "0.1.0",
    .create = create,
    .destroy = destroy,
    .open = open_call,
    .poll_sources = poll_sources,
    .cancel_call = cancel_call,
    .close_call = close_call,
    .poll_frames = poll_frames,
    .cancel_source = cancel_source,
    .close_source = close_source,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &plugin; }

"""###,
"c/build": ###"""
#!/bin/sh
# Builds lib{{name}}.so. CC names another compiler, CFLAGS other options.
set -eu
cd "$(dirname "$0")"
umask go-w # the host loads nothing that others could change

compiler=${CC:-$(command -v cc || command -v clang || command -v gcc)}
"$compiler" -std=c11 ${CFLAGS:--O2 -g} -Wall -Wextra -fPIC -shared -fvisibility=hidden -pthread -I include \
    -o lib{{name}}.so.new {{name}}.c
# By a rename: whoever reads the old file meanwhile sees all of it.
mv -f lib{{name}}.so.new lib{{name}}.so

"""###,
"common/.gitignore": ###"""
lib{{name}}.so
lib{{name}}.so.new
/.build/
/target/

"""###,
"common/chanserv.yaml": ###"""
# `chanserv serve` in this folder serves {{name}} alone. To serve it beside others, paste what is under `plugins` and under
# `routes` into their chanserv.yaml; `path` is relative to the file it stands in.
node:
  listen: 127.0.0.1:5555
plugins:
  {{name}}:
    path: lib{{name}}.so
    config:
      greeting: Hello
routes:
  - vaddr: {{name}}
    plugin: {{name}}

"""###,
"common/test": ###"""
#!/bin/sh
# Builds {{name}}, serves it at a port that is free, asks it, and compares the answers. CHANSERV names the command.
set -eu
cd "$(dirname "$0")"
chanserv=${CHANSERV:-chanserv}

./build

folder=$(mktemp -d)
host=
finish() {
    if [ -n "$host" ]; then kill "$host" 2>/dev/null || true; wait "$host" || true; fi
    rm -rf "$folder"
}
trap finish EXIT

# The configuration beside this script, at another port.
sed -e 's|listen: .*|listen: 127.0.0.1:0|' -e "s|path: lib|path: $PWD/lib|" chanserv.yaml >"$folder/chanserv.yaml"
"$chanserv" check --config "$folder/chanserv.yaml"

# A misspelt option has to be refused, not ignored.
sed -e 's|greeting:|greting:|' "$folder/chanserv.yaml" >"$folder/misspelt.yaml"
if "$chanserv" check --config "$folder/misspelt.yaml" 2>"$folder/refusal"; then
    echo "the misspelt option 'greting' was not refused" >&2
    exit 1
fi
grep -q greting "$folder/refusal"

mkfifo "$folder/log"
"$chanserv" serve --config "$folder/chanserv.yaml" 2>"$folder/log" &
host=$!
exec 3<"$folder/log"
address=
while [ -z "$address" ] && read -r line <&3; do
    echo "$line" >&2
    case $line in
    *'ready: listening on '*)
        address=${line#*listening on }
        address=${address%%,*}
        ;;
    esac
done
[ -n "$address" ]
cat <&3 >&2 &

# expect REQUEST ANSWER: the lines of the answer, sorted, for sources come in any order.
expect() {
    answer=$("$chanserv" post {{name}} --join "$address" --body "$1" | sort)
    if [ "$answer" != "$2" ]; then
        printf 'asked: %s\nexpected:\n%s\ngot:\n%s\n' "$1" "$2" "$answer" >&2
        exit 1
    fi
}

expect 'hi mesh' '[0] Hello, hi!
[0] header: hi
[1] Hello, mesh!
[1] header: mesh'
expect '' ''
expect 'grüezi' '[0] Hello, grüezi!
[0] header: grüezi'

echo "{{name}} is fine"

"""###,
"cpp/PLUGIN.cpp": ###"""
// {{name}}: a source for each word of the request, with one frame that greets it.
//
// Configuration: `greeting`, a text, "Hello" by default.
//
// include/chanserv_plugin.h says for each function who calls it, from which thread, and who frees what.
#include "chanserv_plugin.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

// One for each route that is configured differently.
struct chanserv_instance {
    std::string greeting;
};

// One request: its text, and how far it was split into words.
struct chanserv_call {
    const chanserv_instance &instance;
    std::string text;
    std::size_t next = 0;
};

// One word.
struct chanserv_source {
    std::string frame;
    bool sent = false;
};

namespace {

// No exception may leave a function that the host calls.
template <typename Body> chanserv_status guarded(chanserv_error *error, Body body) noexcept {
    try {
        return body();
    } catch (const std::exception &exception) {
        std::snprintf(error->message, error->capacity, "%s", exception.what());
    } catch (...) {
        std::snprintf(error->message, error->capacity, "an unknown exception");
    }
    return CHANSERV_ERROR_INTERNAL;
}

chanserv_status create(const chanserv_host *host, const chanserv_config *config, chanserv_instance **instance,
                       chanserv_error *error) {
    return guarded(error, [&]() -> chanserv_status {
        // Any other key is a mistake, and is reported as one.
        const char *const known[] = {"greeting"};
        chanserv_status status = host->config_only(host, config, known, 1, error);
        if (status < 0) return status;

        const char *greeting = "Hello";
        std::size_t size = std::string_view(greeting).size();
        status = host->config_string(host, config, "greeting", &greeting, &size, error);
        if (status < 0 && status != CHANSERV_ERROR_NOT_FOUND) return status;
        // A copy: the host's text lives until this function returns.
        *instance = new chanserv_instance{std::string(greeting, size)};
        return CHANSERV_READY;
    });
}

void destroy(chanserv_instance *instance) { delete instance; }

chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                          chanserv_error *error) {
    return guarded(error, [&]() -> chanserv_status {
        // A copy: the request is gone when this function returns.
        *call = new chanserv_call{*instance, std::string(static_cast<const char *>(request->body), request->body_size)};
        return CHANSERV_READY;
    });
}

chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    return guarded(error, [&]() -> chanserv_status {
        for (;;) {
            const std::size_t start = call->text.find_first_not_of(' ', call->next);
            if (start == std::string::npos) return CHANSERV_END;
            const std::size_t end = std::min(call->text.find(' ', start), call->text.size());
            const std::string word = call->text.substr(start, end - start);

            auto source = std::make_unique<chanserv_source>();
            source->frame = call->instance.greeting + ", " + word + "!";
            const chanserv_status status = sink->add(sink, word.data(), word.size(), source.get());
            // Not taken, so it is still ours; where the sink is full the host asks again.
            if (status == CHANSERV_FULL) return CHANSERV_READY;
            if (status != CHANSERV_READY) return status;
            source.release(); // the host closes it
            call->next = end;
        }
    });
}

chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *) {
    if (!source->sent) {
        const chanserv_status status = sink->append(sink, source->frame.data(), source->frame.size());
        if (status == CHANSERV_FULL) return CHANSERV_READY; // no room beside other frames: the host asks again
        if (status != CHANSERV_READY) return status;
        source->sent = true;
    }
    return CHANSERV_END;
}

// No poll ever waits, so there is nothing to hurry up.
void cancel_call(chanserv_call *) {}
void cancel_source(chanserv_source *) {}

void close_call(chanserv_call *call) { delete call; }
void close_source(chanserv_source *source) { delete source; }

const chanserv_plugin plugin = {
    CHANSERV_PLUGIN_MAGIC,
    CHANSERV_ABI_MAJOR,
    CHANSERV_ABI_MINOR,
    sizeof(chanserv_plugin),
    0, // flags: CHANSERV_PLUGIN_INLINE where every function returns within microseconds, see the header
    "{{name}}",
    "0.1.0",
    create,
    destroy,
    open_call,
    poll_sources,
    cancel_call,
    close_call,
    poll_frames,
    cancel_source,
    close_source,
};

} // namespace

extern "C" CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &plugin; }

"""###,
"cpp/build": ###"""
#!/bin/sh
# Builds lib{{name}}.so. CXX names another compiler, CXXFLAGS other options.
set -eu
cd "$(dirname "$0")"
umask go-w # the host loads nothing that others could change

compiler=${CXX:-$(command -v c++ || command -v clang++ || command -v g++)}
"$compiler" -std=c++17 ${CXXFLAGS:--O2 -g} -Wall -Wextra -fPIC -shared -fvisibility=hidden -pthread -I include \
    -o lib{{name}}.so.new {{name}}.cpp
# By a rename: whoever reads the old file meanwhile sees all of it.
mv -f lib{{name}}.so.new lib{{name}}.so

"""###,
"go/build": ###"""
#!/bin/sh
# Builds lib{{name}}.so. cgo needs a C compiler beside Go; CC names another one.
set -eu
cd "$(dirname "$0")"
umask go-w # the host loads nothing that others could change

# Go exports a name for each of its own; the host is to see none but the entry.
CGO_ENABLED=1 CC=${CC:-$(command -v cc || command -v clang || command -v gcc)} \
    go build -buildmode=c-shared -ldflags "-extldflags '\"-Wl,--version-script=$PWD/exports.map\"'" -o lib{{name}}.so.new .
rm -f lib{{name}}.so.h lib{{name}}.so.new.h lib{{name}}.h
# By a rename: whoever reads the old file meanwhile sees all of it.
mv -f lib{{name}}.so.new lib{{name}}.so

"""###,
"go/chanserv.go": ###"""
package main

/*
#cgo CFLAGS: -I${SRCDIR}/include -std=gnu11 -Wall
#include "glue.h"
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"
	"unsafe"
)

// What polls answer. `pending` has to be followed by a wake of the sink's handle.
type status int32

const (
	ready   status = C.CHANSERV_READY
	pending status = C.CHANSERV_PENDING
	end     status = C.CHANSERV_END
)

// A failure with a code the host knows; any other error is an internal one.
type failure struct {
	code    C.chanserv_status
	message string
}

func (f failure) Error() string { return f.message }

func badRequest(message string) error { return failure{C.CHANSERV_ERROR_BAD_REQUEST, message} }
func notFound(message string) error   { return failure{C.CHANSERV_ERROR_NOT_FOUND, message} }
func busy(message string) error       { return failure{C.CHANSERV_ERROR_BUSY, message} }

// What stands under `config:`, while the instance is made.
type configuration struct {
	host   *C.chanserv_host
	config *C.chanserv_config
}

// Only refuses keys other than these.
func (c configuration) only(keys ...string) error {
	known := make([]*C.char, len(keys)+1) // C reads its pointers, which are C's, and it has an address even of no keys
	for i, key := range keys {
		known[i] = C.CString(key)
		defer C.free(unsafe.Pointer(known[i]))
	}
	return withMessage(func(e *C.chanserv_error) C.chanserv_status {
		return C.glue_config_only(c.host, c.config, &known[0], C.size_t(len(keys)), e)
	})
}

// Text is the text at a path, or the default where it is absent. The host's other getters are called in the same way.
func (c configuration) text(path, standard string) (string, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var value *C.char
	var size C.size_t
	err := withMessage(func(e *C.chanserv_error) C.chanserv_status {
		return C.glue_config_string(c.host, c.config, name, &value, &size, e)
	})
	if f, ok := err.(failure); ok && f.code == C.CHANSERV_ERROR_NOT_FOUND {
		return standard, nil
	}
	if err != nil {
		return "", err
	}
	return C.GoStringN(value, C.int(size)), nil
}

func withMessage(ask func(*C.chanserv_error) C.chanserv_status) error {
	e := C.chanserv_error{message: (*C.char)(C.calloc(1, 1024)), capacity: 1024}
	defer C.free(unsafe.Pointer(e.message))
	if code := ask(&e); code < 0 {
		return failure{code, C.GoString(e.message)}
	}
	return nil
}

type sourceSink struct{ sink *C.chanserv_source_sink }

// Add hands a source to the host; false where the sink is full.
func (s sourceSink) add(header []byte, source *source) (bool, error) {
	handle := cgo.NewHandle(source)
	code := C.glue_add(s.sink, pointer(header), C.size_t(len(header)), C.uintptr_t(handle))
	if code != C.CHANSERV_READY {
		handle.Delete()
	}
	return taken(code)
}

type frameSink struct{ sink *C.chanserv_frame_sink }

// Append copies a frame to the host; false where the sink is full.
func (s frameSink) append(frame []byte) (bool, error) {
	return taken(C.glue_append(s.sink, pointer(frame), C.size_t(len(frame))))
}

func taken(code C.chanserv_status) (bool, error) {
	switch code {
	case C.CHANSERV_READY:
		return true, nil
	case C.CHANSERV_FULL:
		return false, nil
	}
	return false, failure{code, "it is larger than 100 MiB"}
}

// Never nil, even of no bytes.
func pointer(bytes []byte) unsafe.Pointer {
	if len(bytes) == 0 {
		return unsafe.Pointer(&none)
	}
	return unsafe.Pointer(&bytes[0])
}

var none byte

// What the host calls, by way of glue.c. Objects are numbers for it.

//export glueCreate
func glueCreate(host *C.chanserv_host, config *C.chanserv_config, made *C.uintptr_t, e *C.chanserv_error) C.chanserv_status {
	return guarded(e, func() (status, error) {
		instance, err := create(configuration{host, config})
		if err == nil {
			*made = C.uintptr_t(cgo.NewHandle(instance))
		}
		return ready, err
	})
}

//export glueDestroy
func glueDestroy(i C.uintptr_t) { takeBack(i).(*instance).destroy() }

//export glueOpen
func glueOpen(i C.uintptr_t, body unsafe.Pointer, size C.size_t, made *C.uintptr_t, e *C.chanserv_error) C.chanserv_status {
	return guarded(e, func() (status, error) {
		// A copy: the request is gone when this function returns.
		call, err := cgo.Handle(i).Value().(*instance).open(C.GoBytes(body, C.int(size)))
		if err == nil {
			*made = C.uintptr_t(cgo.NewHandle(call))
		}
		return ready, err
	})
}

//export gluePollSources
func gluePollSources(c C.uintptr_t, sink *C.chanserv_source_sink, e *C.chanserv_error) C.chanserv_status {
	return guarded(e, func() (status, error) { return cgo.Handle(c).Value().(*call).pollSources(sourceSink{sink}) })
}

//export glueCancelCall
func glueCancelCall(c C.uintptr_t) { cgo.Handle(c).Value().(*call).cancel() }

//export glueCloseCall
func glueCloseCall(c C.uintptr_t) { takeBack(c).(*call).close() }

//export gluePollFrames
func gluePollFrames(s C.uintptr_t, sink *C.chanserv_frame_sink, e *C.chanserv_error) C.chanserv_status {
	return guarded(e, func() (status, error) { return cgo.Handle(s).Value().(*source).pollFrames(frameSink{sink}) })
}

//export glueCancelSource
func glueCancelSource(s C.uintptr_t) { cgo.Handle(s).Value().(*source).cancel() }

//export glueCloseSource
func glueCloseSource(s C.uintptr_t) { takeBack(s).(*source).close() }

func takeBack(object C.uintptr_t) any {
	handle := cgo.Handle(object)
	defer handle.Delete()
	return handle.Value()
}

// Guarded runs the body of a function that the host calls: an error becomes its message, and no panic gets out.
func guarded(e *C.chanserv_error, body func() (status, error)) (code C.chanserv_status) {
	defer func() {
		if panicked := recover(); panicked != nil {
			code = report(e, fmt.Errorf("panic: %v", panicked))
		}
	}()
	answer, err := body()
	if err != nil {
		return report(e, err)
	}
	return C.chanserv_status(answer)
}

func report(e *C.chanserv_error, err error) C.chanserv_status {
	message := C.CString(err.Error())
	defer C.free(unsafe.Pointer(message))
	C.glue_report(e, message)
	var f failure
	if errors.As(err, &f) {
		return f.code
	}
	return C.CHANSERV_ERROR_INTERNAL
}

"""###,
"go/exports.map": ###"""
{ global: chanserv_plugin_v1; local: *; };

"""###,
"go/glue.c": ###"""
/* The table that the host reads, which Go cannot make: its functions are those that chanserv.go exports. */
#include "_cgo_export.h"

/* To the host objects are pointers, to Go they are numbers that stand for something. */

static chanserv_status create(const chanserv_host *host, const chanserv_config *config, chanserv_instance **instance,
                              chanserv_error *error) {
    uintptr_t made = 0;
    chanserv_status status = glueCreate((chanserv_host *)host, (chanserv_config *)config, &made, error);
    *instance = (chanserv_instance *)made;
    return status;
}

static void destroy(chanserv_instance *instance) { glueDestroy((uintptr_t)instance); }

static chanserv_status open_call(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                 chanserv_error *error) {
    uintptr_t made = 0;
    chanserv_status status = glueOpen((uintptr_t)instance, (void *)request->body, request->body_size, &made, error);
    *call = (chanserv_call *)made;
    return status;
}

static chanserv_status poll_sources(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error) {
    return gluePollSources((uintptr_t)call, sink, error);
}

static void cancel_call(chanserv_call *call) { glueCancelCall((uintptr_t)call); }
static void close_call(chanserv_call *call) { glueCloseCall((uintptr_t)call); }

static chanserv_status poll_frames(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error) {
    return gluePollFrames((uintptr_t)source, sink, error);
}

static void cancel_source(chanserv_source *source) { glueCancelSource((uintptr_t)source); }
static void close_source(chanserv_source *source) { glueCloseSource((uintptr_t)source); }

static const chanserv_plugin plugin = {
    .magic = CHANSERV_PLUGIN_MAGIC,
    .abi_major = CHANSERV_ABI_MAJOR,
    .abi_minor = CHANSERV_ABI_MINOR,
    .struct_size = sizeof(chanserv_plugin),
    .name = "{{name}}",
    .version = "0.1.0",
    .create = create,
    .destroy = destroy,
    .open = open_call,
    .poll_sources = poll_sources,
    .cancel_call = cancel_call,
    .close_call = close_call,
    .poll_frames = poll_frames,
    .cancel_source = cancel_source,
    .close_source = close_source,
};

CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &plugin; }

"""###,
"go/glue.h": ###"""
/* Go cannot call pointers to C functions: each that it needs has a function here. */
#include "chanserv_plugin.h"

#include <stdio.h>

static inline chanserv_status glue_config_only(const chanserv_host *host, const chanserv_config *config, char **known,
                                               size_t count, chanserv_error *error) {
    return host->config_only(host, config, (const char *const *)known, count, error);
}

static inline chanserv_status glue_config_string(const chanserv_host *host, const chanserv_config *config,
                                                 const char *path, char **value, size_t *size, chanserv_error *error) {
    return host->config_string(host, config, path, (const char **)value, size, error);
}

static inline chanserv_status glue_add(chanserv_source_sink *sink, const void *header, size_t size, uintptr_t source) {
    return sink->add(sink, header, size, (chanserv_source *)source);
}

static inline chanserv_status glue_append(chanserv_frame_sink *sink, const void *data, size_t size) {
    return sink->append(sink, data, size);
}

static inline void glue_wake(const chanserv_host *host, uint64_t handle) { host->wake(host, handle); }

static inline void glue_log(const chanserv_host *host, int32_t level, const char *message, size_t size) {
    host->log(host, level, message, size);
}

static inline void glue_report(chanserv_error *error, const char *message) {
    snprintf(error->message, error->capacity, "%s", message);
}

"""###,
"go/go.mod": ###"""
module {{name}}

go 1.19

"""###,
"go/plugin.go": ###"""
// {{name}}: a source for each word of the request, with one frame that greets it.
//
// Configuration: `greeting`, a text, "Hello" by default.
//
// glue.c and chanserv.go join this to the host; include/chanserv_plugin.h says for each function who calls it, from which
// thread, and who frees what.
//
// Go's runtime comes with the library: it starts threads, and installs handlers of its own for SIGSEGV, SIGBUS, SIGFPE,
// SIGPIPE and the signal it preempts with (SIGURG), which pass on what is not Go's. Leave all other signals to the host: do
// not call os/signal.Notify. A panic that is not recovered ends the whole host.
package main

import "strings"

// One for each route that is configured differently.
type instance struct {
	greeting string
}

// One request: the words the host has not taken yet.
type call struct {
	instance *instance
	words    []string
}

// One word.
type source struct {
	frame []byte
	sent  bool
}

func create(config configuration) (*instance, error) {
	// Any other key is a mistake, and is reported as one.
	if err := config.only("greeting"); err != nil {
		return nil, err
	}
	greeting, err := config.text("greeting", "Hello")
	if err != nil {
		return nil, err
	}
	return &instance{greeting}, nil
}

func (i *instance) destroy() {}

func (i *instance) open(body []byte) (*call, error) {
	return &call{i, strings.Fields(string(body))}, nil
}

func (c *call) pollSources(sink sourceSink) (status, error) {
	for len(c.words) > 0 {
		word := c.words[0]
		taken, err := sink.add([]byte(word), &source{frame: []byte(c.instance.greeting + ", " + word + "!")})
		if err != nil {
			return end, err
		}
		if !taken {
			return ready, nil // the sink is full: the host asks again
		}
		c.words = c.words[1:]
	}
	return end, nil
}

func (s *source) pollFrames(sink frameSink) (status, error) {
	if !s.sent {
		taken, err := sink.append(s.frame)
		if err != nil {
			return end, err
		}
		if !taken {
			return ready, nil // no room beside other frames: the host asks again
		}
		s.sent = true
	}
	return end, nil
}

// No poll ever waits, so there is nothing to hurry up.
func (c *call) cancel()   {}
func (s *source) cancel() {}

func (c *call) close()   {}
func (s *source) close() {}

// The library has no program of its own.
func main() {}

"""###,
"rust/Cargo.toml": ###"""
[package]
name = "{{name}}-plugin"
version = "0.1.0"
edition = "2021"
publish = false

[lib]
name = "plugin"
crate-type = ["cdylib"]

[profile.release]
debug = "line-tables-only"

"""###,
"rust/build": ###"""
#!/bin/sh
# Builds lib{{name}}.so. It needs no crates, and so no network.
set -eu
cd "$(dirname "$0")"
umask go-w # the host loads nothing that others could change

CARGO_TARGET_DIR=target cargo build --release --quiet
cp target/release/libplugin.so lib{{name}}.so.new
# By a rename: whoever reads the old file meanwhile sees all of it.
mv -f lib{{name}}.so.new lib{{name}}.so

"""###,
"rust/src/chanserv.rs": ###"""
//! `chanserv_plugin.h`, ABI 1.1, as Rust, written by hand: the layouts have to be those of the header. Everything that the
//! comments there say holds here.
//!
//! A host of version 1.0 has structs that end before the fields "since 1.1": compare `struct_size` before such a field is
//! read, as `FrameSink::lend_function` does, and never make a reference to a whole struct of the host's.
#![allow(dead_code)]

use std::ffi::{c_char, c_void, CStr};
use std::panic::{catch_unwind, AssertUnwindSafe};

pub type Status = i32;

pub const READY: Status = 0;
pub const PENDING: Status = 1;
pub const END: Status = 2;
pub const FULL: Status = 3;
pub const BAD_REQUEST: Status = -1;
pub const NOT_FOUND: Status = -2;
pub const BUSY: Status = -3;
pub const INTERNAL: Status = -4;
pub const TOO_LARGE: Status = -5;

pub const LOG_DEBUG: i32 = 0;
pub const LOG_INFO: i32 = 1;
pub const LOG_WARNING: i32 = 2;
pub const LOG_ERROR: i32 = 3;

pub const PLUGIN_MAGIC: u32 = 0x5053_4843;
pub const ABI_MAJOR: u16 = 1;
pub const ABI_MINOR: u16 = 1;
pub const PLUGIN_SERIAL: u32 = 1;
pub const PLUGIN_BLOCKING: u32 = 2;
/// Every function but create, destroy and the cancels returns within microseconds. A 1.0 host refuses it.
pub const PLUGIN_INLINE: u32 = 4;

#[repr(C)]
pub struct ErrorMessage {
    pub message: *mut c_char,
    pub capacity: usize,
}

#[repr(C)]
pub struct Config {
    _opaque: [u8; 0],
}

type Get<Value> = unsafe extern "C" fn(*const Host, *const Config, *const c_char, *mut Value, *mut ErrorMessage) -> Status;
type GetText = unsafe extern "C" fn(
    *const Host, *const Config, *const c_char, *mut *const c_char, *mut usize, *mut ErrorMessage,
) -> Status;

#[repr(C)]
pub struct Host {
    pub magic: u32,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub struct_size: u32,
    pub reserved: u32,
    pub wake: unsafe extern "C" fn(*const Host, u64),
    pub log: unsafe extern "C" fn(*const Host, i32, *const c_char, usize),
    pub config_json: unsafe extern "C" fn(*const Host, *const Config, *mut *const c_char, *mut usize) -> Status,
    pub config_string: GetText,
    pub config_integer: Get<i64>,
    pub config_number: Get<f64>,
    pub config_boolean: Get<i32>,
    pub config_duration: Get<i64>,
    pub config_size: Get<u64>,
    pub config_count: Get<usize>,
    pub config_only:
        unsafe extern "C" fn(*const Host, *const Config, *const *const c_char, usize, *mut ErrorMessage) -> Status,
    pub config_path: GetText,
    // Since 1.1.
    pub context: *mut c_void,
    pub config_keys: unsafe extern "C" fn(
        *const Host, *const Config, *const c_char, *mut *const *const c_char, *mut usize, *mut ErrorMessage,
    ) -> Status,
}

#[repr(C)]
pub struct Request {
    pub struct_size: u32,
    pub reserved: u32,
    pub body: *const c_void,
    pub body_size: usize,
    pub vaddr: *const c_char,
    pub remote_address: *const c_char,
    // Since 1.1.
    pub deadline: i64,
    pub meta: *const c_char,
    pub bucket: *const c_char,
    pub traceparent: *const c_char,
    pub peer_address: *const c_char,
    pub identity: *const c_char,
    pub flags: u32,
    pub reserved_1: u32,
}

#[repr(C)]
pub struct SourceSink {
    pub struct_size: u32,
    pub reserved: u32,
    pub wake: u64,
    pub add: unsafe extern "C" fn(*mut SourceSink, *const c_void, usize, *mut c_void) -> Status,
    // Since 1.1.
    pub context: *mut c_void,
}

#[repr(C)]
pub struct FrameSink {
    pub struct_size: u32,
    pub reserved: u32,
    pub wake: u64,
    pub append: unsafe extern "C" fn(*mut FrameSink, *const c_void, usize) -> Status,
    pub reserve: unsafe extern "C" fn(*mut FrameSink, usize, *mut usize) -> *mut c_void,
    pub commit: unsafe extern "C" fn(*mut FrameSink, usize) -> Status,
    // Since 1.1.
    pub context: *mut c_void,
    pub lend: Lend,
}

pub type Lend = unsafe extern "C" fn(
    *mut FrameSink, *const c_void, usize, Option<unsafe extern "C" fn(*mut c_void)>, *mut c_void,
) -> Status;

impl FrameSink {
    /// `lend`, where the host has it.
    pub unsafe fn lend_function(sink: *const FrameSink) -> Option<Lend> {
        let needed = std::mem::offset_of!(FrameSink, lend) + std::mem::size_of::<Lend>();
        if (*sink).struct_size as usize >= needed { Some((*sink).lend) } else { None }
    }
}

#[repr(C)]
pub struct Plugin {
    pub magic: u32,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub struct_size: u32,
    pub flags: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub create: unsafe extern "C" fn(*const Host, *const Config, *mut *mut c_void, *mut ErrorMessage) -> Status,
    pub destroy: unsafe extern "C" fn(*mut c_void),
    pub open: unsafe extern "C" fn(*mut c_void, *const Request, *mut *mut c_void, *mut ErrorMessage) -> Status,
    pub poll_sources: unsafe extern "C" fn(*mut c_void, *mut SourceSink, *mut ErrorMessage) -> Status,
    pub cancel_call: unsafe extern "C" fn(*mut c_void),
    pub close_call: unsafe extern "C" fn(*mut c_void),
    pub poll_frames: unsafe extern "C" fn(*mut c_void, *mut FrameSink, *mut ErrorMessage) -> Status,
    pub cancel_source: unsafe extern "C" fn(*mut c_void),
    pub close_source: unsafe extern "C" fn(*mut c_void),
}

// It is constant, and its pointers are those of constants.
unsafe impl Sync for Plugin {}

/// Writes a message into the host's buffer, cut between characters where it is too long.
pub unsafe fn report(error: *mut ErrorMessage, message: &str) {
    if error.is_null() || (*error).capacity == 0 {
        return;
    }
    let mut size = message.len().min((*error).capacity - 1);
    while !message.is_char_boundary(size) {
        size -= 1;
    }
    std::ptr::copy_nonoverlapping(message.as_ptr(), (*error).message as *mut u8, size);
    *(*error).message.add(size) = 0;
}

/// Runs the body of a function that the host calls: an error becomes its message, and no panic gets out.
pub unsafe fn guarded(error: *mut ErrorMessage, body: impl FnOnce() -> Result<Status, (Status, String)>) -> Status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err((status, message))) => {
            report(error, &message);
            status
        }
        Err(_) => {
            report(error, "the plugin panicked");
            INTERNAL
        }
    }
}

/// A value as a pointer for the host, until `take_back`.
pub fn hand_out<Value>(value: Value) -> *mut c_void {
    Box::into_raw(Box::new(value)) as *mut c_void
}

pub unsafe fn take_back<Value>(pointer: *mut c_void) {
    drop(Box::from_raw(pointer as *mut Value));
}

pub unsafe fn config_only(
    host: *const Host, config: *const Config, known: &[&CStr], error: *mut ErrorMessage,
) -> Status {
    let known: Vec<*const c_char> = known.iter().map(|key| key.as_ptr()).collect();
    ((*host).config_only)(host, config, known.as_ptr(), known.len(), error)
}

/// The text at a path; `None` where it is absent.
pub unsafe fn config_string(
    host: *const Host, config: *const Config, path: &CStr, error: *mut ErrorMessage,
) -> Result<Option<String>, Status> {
    let mut value: *const c_char = std::ptr::null();
    let mut size = 0;
    match ((*host).config_string)(host, config, path.as_ptr(), &mut value, &mut size, error) {
        NOT_FOUND => Ok(None),
        status if status < 0 => Err(status),
        _ => {
            let bytes = std::slice::from_raw_parts(value as *const u8, size);
            Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
        }
    }
}

"""###,
"rust/src/lib.rs": ###"""
//! {{name}}: a source for each word of the request, with one frame that greets it.
//!
//! Configuration: `greeting`, a text, "Hello" by default.
//!
//! `chanserv.rs` has the contract with the host as Rust; `include/chanserv_plugin.h` says for each function who calls it,
//! from which thread, and who frees what.

mod chanserv;

use chanserv::*;
use std::ffi::c_void;

/// One for each route that is configured differently.
struct Instance {
    greeting: String,
}

/// One request: its words, and how many of them the host has taken.
struct Call {
    greeting: String,
    words: Vec<String>,
    next: usize,
}

/// One word.
struct Source {
    frame: String,
    sent: bool,
}

unsafe extern "C" fn create(
    host: *const Host, config: *const Config, instance: *mut *mut c_void, error: *mut ErrorMessage,
) -> Status {
    guarded(error, || {
        // Any other key is a mistake, and is reported as one.
        let status = config_only(host, config, &[c"greeting"], error);
        if status < 0 {
            return Ok(status);
        }
        let greeting = match config_string(host, config, c"greeting", error) {
            Ok(greeting) => greeting.unwrap_or_else(|| "Hello".to_string()),
            Err(status) => return Ok(status),
        };
        *instance = hand_out(Instance { greeting });
        Ok(READY)
    })
}

unsafe extern "C" fn open(
    instance: *mut c_void, request: *const Request, call: *mut *mut c_void, error: *mut ErrorMessage,
) -> Status {
    guarded(error, || {
        let instance = &*(instance as *const Instance);
        let body = std::slice::from_raw_parts((*request).body as *const u8, (*request).body_size);
        let text = std::str::from_utf8(body).map_err(|_| (BAD_REQUEST, "a request is text".to_string()))?;
        let words = text.split_whitespace().map(str::to_string).collect();
        *call = hand_out(Call { greeting: instance.greeting.clone(), words, next: 0 });
        Ok(READY)
    })
}

unsafe extern "C" fn poll_sources(call: *mut c_void, sink: *mut SourceSink, error: *mut ErrorMessage) -> Status {
    guarded(error, || {
        let call = &mut *(call as *mut Call);
        while let Some(word) = call.words.get(call.next) {
            let source = hand_out(Source { frame: format!("{}, {}!", call.greeting, word), sent: false });
            let status = ((*sink).add)(sink, word.as_ptr() as *const c_void, word.len(), source);
            if status != READY {
                take_back::<Source>(source); // not taken, so it is still ours
            }
            match status {
                READY => call.next += 1,
                FULL => return Ok(READY), // the host asks again
                other => return Ok(other),
            }
        }
        Ok(END)
    })
}

unsafe extern "C" fn poll_frames(source: *mut c_void, sink: *mut FrameSink, error: *mut ErrorMessage) -> Status {
    guarded(error, || {
        let source = &mut *(source as *mut Source);
        if !source.sent {
            match ((*sink).append)(sink, source.frame.as_ptr() as *const c_void, source.frame.len()) {
                READY => source.sent = true,
                FULL => return Ok(READY), // no room beside other frames: the host asks again
                other => return Ok(other),
            }
        }
        Ok(END)
    })
}

// No poll ever waits, so there is nothing to hurry up.
unsafe extern "C" fn cancel(_: *mut c_void) {}

unsafe extern "C" fn destroy(instance: *mut c_void) {
    take_back::<Instance>(instance);
}

unsafe extern "C" fn close_call(call: *mut c_void) {
    take_back::<Call>(call);
}

unsafe extern "C" fn close_source(source: *mut c_void) {
    take_back::<Source>(source);
}

static PLUGIN: Plugin = Plugin {
    magic: PLUGIN_MAGIC,
    abi_major: ABI_MAJOR,
    abi_minor: ABI_MINOR,
    struct_size: std::mem::size_of::<Plugin>() as u32,
    flags: 0, // PLUGIN_INLINE where every function returns within microseconds: see chanserv_plugin.h
    name: c"{{name}}".as_ptr(),
    version: c"0.1.0".as_ptr(),
    create,
    destroy,
    open,
    poll_sources,
    cancel_call: cancel,
    close_call,
    poll_frames,
    cancel_source: cancel,
    close_source,
};

#[no_mangle]
pub extern "C" fn chanserv_plugin_v1() -> *const Plugin {
    &PLUGIN
}

"""###,
"swift/Package.swift": ###"""
// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "{{name}}",
    products: [.library(name: "{{name}}", type: .dynamic, targets: ["{{Type}}Plugin"])],
{{sdk}}
)

"""###,
"swift/Sources/PLUGIN/PLUGIN.swift": ###"""
public import CChanservPlugin
import ChanservPlugin

/// {{name}}: a source for each word of the request, with one frame that greets it.
struct {{Type}}Plugin: Plugin {
    static let name = "{{name}}"
    static let version = "0.1.0"

    /// What stands under `config:`, with its defaults. Any other key is a mistake, and is reported as one.
    struct Options: Codable {
        var greeting = "Hello"
    }

    let options: Options

    init(configuration: borrowing Configuration, log: Log) throws {
        options = try configuration.decode(over: Options())
    }

    func serve(_ request: Request, to sources: SourceWriter) async throws {
        for word in request.text.split(separator: " ") {
            try await sources.add(Source(header: String(word)) { frames in
                try await frames.write("\(options.greeting), \(word)!")
            })
        }
    }
}

/// The one function the library exports; the compiler checks it against the header.
@c @implementation
public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? { {{Type}}Plugin.descriptor }

"""###,
"swift/build": ###"""
#!/bin/sh
# Builds lib{{name}}.so. What is passed goes to `swift build`.
set -eu
cd "$(dirname "$0")"
umask go-w # the host loads nothing that others could change

swift build -c release --product {{name}} "$@"
cp "$(swift build -c release --show-bin-path "$@")/lib{{name}}.so" lib{{name}}.so.new
# By a rename: whoever reads the old file meanwhile sees all of it.
mv -f lib{{name}}.so.new lib{{name}}.so

"""###,
    ]

    /// What `#include` finds.
    static let include: [String: String] = [
"chanserv_plugin.h": ###"""
/*
 * chanserv_plugin.h: the complete interface between the chanserv host and a plugin, ABI version 1.1.
 *
 * A plugin is a shared library that exports one function, CHANSERV_ENTRY. The function returns a pointer to a constant
 * descriptor (struct chanserv_plugin). All other functions are reached through tables of function pointers. The header
 * is plain C11 without dependencies. It is usable from C++ and from every language with a C foreign function interface.
 *
 *
 * Life cycle
 * ----------
 *
 *     dlopen ── chanserv_plugin_v1() ── create ─┬─ open ─┬─ poll_sources … END or error ──────┐
 *                                               │        │    └ adds source ─ poll_frames …   │
 *                                               │        │                    close_source ───┤
 *                                               │        └─ close_call (after its last source)┘
 *                                               └─ … any number of calls at the same time …
 *                                               destroy (after the last close_call)
 *
 * - A library may have several instances at the same time: one for each configuration entry that names it, and during a
 *   reload those of two generations.
 * - The host pulls. It polls a call for sources and a source for frames, and the plugin returns at once with what it
 *   has. A host that does not poll applies backpressure, because the client reads slowly. Do not buffer without a
 *   limit.
 * - The host never unloads the library with dlclose. It copies the file before loading it, so replacing, truncating or
 *   removing the file on disk does not affect running code.
 *
 *
 * Threads
 * -------
 *
 * - The host calls the functions of the descriptor on its plugin threads, and never on an event loop.
 *   CHANSERV_PLUGIN_INLINE is the only exception. Different calls and sources are polled by different threads at the
 *   same time. All function calls for *one* call or *one* source are serialised, with the memory ordering that this
 *   implies, but consecutive ones may run on different threads. The exceptions are cancel_call and cancel_source: they
 *   may overlap every other function except the close of the same object.
 * - CHANSERV_PLUGIN_SERIAL: no two functions of one instance ever overlap, the cancel functions included. The release
 *   functions of lent frames are not functions of the descriptor and may overlap any of them.
 * - CHANSERV_PLUGIN_BLOCKING: polls may block, for example in a database driver. The library then has plugin threads of
 *   its own. Without this flag a function should return within about a millisecond. Work that takes longer returns
 *   PENDING and calls wake from a thread of the plugin.
 * - CHANSERV_PLUGIN_INLINE: open, poll_sources, poll_frames, close_source and close_call return within microseconds.
 *   The host may call them on a network event loop, which does nothing else until they return. It may also call them on
 *   its other threads at any time, so the rules above apply as well. The functions must not block, wait for a lock that
 *   another thread holds for long, read files, or compute for long. A large answer must be split over many polls. The
 *   host never calls create, destroy, cancel_call and cancel_source on an event loop. The flag may be combined with
 *   CHANSERV_PLUGIN_SERIAL. It contradicts CHANSERV_PLUGIN_BLOCKING: the host refuses to load a plugin with both.
 *
 *
 * What a plugin must not do
 * -------------------------
 *
 * A plugin must not install signal handlers or change the signal masks of host threads. It must not fork without exec,
 * and must not register atexit handlers. It must not call chdir, setlocale, umask, setenv or exit. It must not write to
 * standard output or standard error (use host->log). It must not let a C++ exception or any other unwinding cross this
 * boundary. It must not keep pointers longer than stated below.
 *
 *
 * Versions
 * --------
 *
 * The name of the entry contains the major version. Both tables begin with the same fields. Each side reads only the
 * smaller of the two struct_size values, and fields are only ever appended. The host refuses a descriptor with a wrong
 * magic, another major version or a struct_size smaller than that of version 1.0. Its error message states the reason.
 *
 * A field marked "Since 1.1" exists only if the struct_size of the struct includes it. A host of version 1.0 does not
 * have it. CHANSERV_HAS tests for it:
 *
 *     if (CHANSERV_HAS(sink, chanserv_frame_sink, lend)) { ... sink->lend(...) ... } else { ... sink->append(...) ... }
 *
 * The flags of the descriptor are different. A host refuses a descriptor with a flag that it does not know, and the
 * entry does not know which host calls it. A plugin with CHANSERV_PLUGIN_INLINE therefore does not load in a 1.0 host.
 * A plugin that must load there sets the flag in one of two builds: write `.flags = MY_FLAGS` and build the library
 * twice, with -DMY_FLAGS=CHANSERV_PLUGIN_INLINE and with -DMY_FLAGS=0. All other features of version 1.1 work in one
 * library for both hosts. A plugin that was built with the header of version 1.0 runs unchanged in a 1.1 host.
 */
#ifndef CHANSERV_PLUGIN_H
#define CHANSERV_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define CHANSERV_EXPORT __declspec(dllexport)
#else
#define CHANSERV_EXPORT __attribute__((visibility("default")))
#endif

#define CHANSERV_ABI_MAJOR 1
#define CHANSERV_ABI_MINOR 1

/* First field of struct chanserv_plugin: the bytes "CHSP" in memory on a little-endian machine. */
#define CHANSERV_PLUGIN_MAGIC UINT32_C(0x50534843)
/* First field of struct chanserv_host: the bytes "CHSH" in memory on a little-endian machine. */
#define CHANSERV_HOST_MAGIC UINT32_C(0x48534843)

/* The name of the exported function, as an identifier and as a string for dlsym. */
#define CHANSERV_ENTRY chanserv_plugin_v1
#define CHANSERV_ENTRY_NAME "chanserv_plugin_v1"

/*
 * Whether the host's struct at `pointer`, a `struct type`, has the field `field`. False if the field was appended in a
 * later version than the host's.
 */
#define CHANSERV_HAS(pointer, type, field) \
    ((pointer)->struct_size >= offsetof(struct type, field) + sizeof((pointer)->field))

/* Maximum size of a frame, header or request body: 100 MiB (the limit of the wire protocol). */
#define CHANSERV_FRAME_SIZE_MAX ((size_t)104857600)

/* ---------------------------------------------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------------------------------------------- */

/*
 * The status of every function that can fail: zero or above is a result, below zero an error. The host treats an
 * unknown error code, and a result that the comment of the function does not list, as CHANSERV_ERROR_INTERNAL.
 */
typedef int32_t chanserv_status;

enum {
    /* Done. Or: there may be more; poll again when there is room. */
    CHANSERV_READY = 0,
    /* Nothing now. The plugin calls host->wake with the sink's handle at least once when a poll can make progress. */
    CHANSERV_PENDING = 1,
    /* Complete without an error: the call has no more sources, or the source has no more frames. */
    CHANSERV_END = 2,
    /* From a sink: not taken, the batch is full. Return CHANSERV_READY and offer the same item in the next poll. */
    CHANSERV_FULL = 3,

    /* The request, or in create the configuration, is wrong. Repeating it fails again. */
    CHANSERV_ERROR_BAD_REQUEST = -1,
    /* The requested object does not exist. From a configuration getter: the key is absent. */
    CHANSERV_ERROR_NOT_FOUND = -2,
    /* The plugin cannot serve now. A later attempt, or another host, may succeed. */
    CHANSERV_ERROR_BUSY = -3,
    /* Any other failure. */
    CHANSERV_ERROR_INTERNAL = -4,
    /* From a sink: larger than CHANSERV_FRAME_SIZE_MAX, not taken. */
    CHANSERV_ERROR_TOO_LARGE = -5
};

/*
 * The buffer for the message of a failing function. It belongs to the host and is valid until the function returns. It
 * is empty when the function is called. Write at most `capacity` bytes of UTF-8 including a terminating zero, as
 * snprintf does. The message is logged and sent to the client, so it must not contain secrets.
 */
typedef struct chanserv_error {
    char *message;
    size_t capacity;
} chanserv_error;

/* ---------------------------------------------------------------------------------------------------------------
 * The host's table
 * ------------------------------------------------------------------------------------------------------------- */

/* Types that the plugin defines. The host only passes the pointers back. */
typedef struct chanserv_instance chanserv_instance;
typedef struct chanserv_call chanserv_call;
typedef struct chanserv_source chanserv_source;

/* The configuration of one instance: an opaque tree. Valid until create returns. */
typedef struct chanserv_config chanserv_config;

/* Log levels for host->log. */
enum {
    CHANSERV_LOG_DEBUG = 0,
    CHANSERV_LOG_INFO = 1,
    CHANSERV_LOG_WARNING = 2,
    CHANSERV_LOG_ERROR = 3
};

/*
 * The functions of the host, one table for each instance. It is valid from create until destroy has returned. The
 * exceptions are `wake` and `log`: a plugin may copy their function pointers and call them, with the address of the
 * table, until the process ends. The table stays readable until then. All functions may be called from any thread and
 * never block.
 */
typedef struct chanserv_host {
    uint32_t magic;       /* CHANSERV_HOST_MAGIC */
    uint16_t abi_major;   /* CHANSERV_ABI_MAJOR */
    uint16_t abi_minor;   /* the version of the host, may be newer or older than the plugin's */
    uint32_t struct_size; /* sizeof(struct chanserv_host) in the host's version */
    uint32_t reserved;

    /*
     * Requests another poll after CHANSERV_PENDING. `handle` is the `wake` field of that poll's sink. It is the same
     * for all polls of one object. Handles are never reused, so extra calls, calls during a poll, and calls after the
     * object is closed are harmless. A wake during a poll is not lost.
     */
    void (*wake)(const struct chanserv_host *host, uint64_t handle);

    /* Logs `size` bytes of UTF-8 with the plugin's name. An unknown `level` counts as CHANSERV_LOG_INFO. */
    void (*log)(const struct chanserv_host *host, int32_t level, const char *message, size_t size);

    /*
     * The configuration: the value under `config:` in the YAML file, with a route's configuration merged over its
     * plugin's.
     *
     * `path` names a value: keys separated by dots, and list elements by their index, e.g. "limits.0.size". Each getter
     * has three results. CHANSERV_READY: *value is set. CHANSERV_ERROR_NOT_FOUND: the key is absent and *value is
     * unchanged, so initialise *value with the default and treat this as success. CHANSERV_ERROR_BAD_REQUEST: the value
     * has another type; the message states file, line and column. Strings and JSON belong to the host, end in a zero
     * byte that `size` does not count, and are valid until create returns.
     */
    chanserv_status (*config_json)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char **value, size_t *size);
    chanserv_status (*config_string)(const struct chanserv_host *host, const chanserv_config *config,
                                     const char *path, const char **value, size_t *size, chanserv_error *error);
    chanserv_status (*config_integer)(const struct chanserv_host *host, const chanserv_config *config,
                                      const char *path, int64_t *value, chanserv_error *error);
    chanserv_status (*config_number)(const struct chanserv_host *host, const chanserv_config *config,
                                     const char *path, double *value, chanserv_error *error);
    /* Sets *value to 0 or 1. */
    chanserv_status (*config_boolean)(const struct chanserv_host *host, const chanserv_config *config,
                                      const char *path, int32_t *value, chanserv_error *error);
    /* A duration such as `250ms`, `30s`, `5m` or `1h`, in nanoseconds. */
    chanserv_status (*config_duration)(const struct chanserv_host *host, const chanserv_config *config,
                                       const char *path, int64_t *nanoseconds, chanserv_error *error);
    /* A size such as `512`, `64KiB`, `100MiB` or `1GiB`, in bytes. */
    chanserv_status (*config_size)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, uint64_t *bytes, chanserv_error *error);
    /* The number of elements of a list. */
    chanserv_status (*config_count)(const struct chanserv_host *host, const chanserv_config *config,
                                    const char *path, size_t *count, chanserv_error *error);
    /*
     * Checks for keys that the plugin does not know. `known` is an array of `count` top-level keys. CHANSERV_READY:
     * there is no other key. CHANSERV_ERROR_BAD_REQUEST: there is one; the message states its place and the most
     * similar known key. This makes a misspelt option an error at start instead of a silent default.
     */
    chanserv_status (*config_only)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *const *known, size_t count, chanserv_error *error);
    /*
     * A file system path. As config_string, but a relative path is resolved against the folder of the configuration
     * file, like all paths in that file. A plugin cannot do this: it does not know that folder and must not rely on the
     * working directory.
     */
    chanserv_status (*config_path)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, const char **value, size_t *size, chanserv_error *error);

    /* Since 1.1. Private to the host: a plugin neither reads nor writes it. */
    void *context;
    /*
     * Since 1.1. The keys of a mapping, in the order of the configuration file. An empty `path` is the whole
     * configuration. Sets *keys to an array of *count zero-terminated strings. Array and strings belong to the host and
     * are valid until create returns. A key that contains a dot cannot be part of a `path`.
     */
    chanserv_status (*config_keys)(const struct chanserv_host *host, const chanserv_config *config,
                                   const char *path, const char *const **keys, size_t *count,
                                   chanserv_error *error);
} chanserv_host;

/* ---------------------------------------------------------------------------------------------------------------
 * Requests and sinks
 * ------------------------------------------------------------------------------------------------------------- */

/* One request. The struct and everything it points to belong to the host and are valid until open returns. */
typedef struct chanserv_request {
    uint32_t struct_size;
    uint32_t reserved;
    const void *body; /* the request body; never NULL, even if body_size is 0 */
    size_t body_size; /* at most CHANSERV_FRAME_SIZE_MAX */
    const char *vaddr;          /* the virtual address of the route, zero-terminated */
    const char *remote_address; /* the address of the client in AstraNet notation, zero-terminated */

    /*
     * Since 1.1: properties of the request that the client and the connection state. Strings are zero-terminated. All
     * but peer_address and identity come from the client and are not verified.
     */
    int64_t deadline;         /* nanoseconds from the call of open until the client gives up; -1: no deadline */
    const char *meta;         /* the tag "meta", free text about the request; NULL: not set */
    const char *bucket;       /* the tag "bucket", by which the client chose among several hosts; NULL: not set */
    const char *traceparent;  /* W3C Trace Context; NULL: not set */
    const char *peer_address; /* `ip:port` of the client, or of the router on the way; may be "" */
    const char *identity;     /* the verified identity of the client; always "" in this version */
    uint32_t flags;           /* 0 in this version; ignore bits you do not know */
    uint32_t reserved_1;
} chanserv_request;

/* Receives the sources of one poll_sources. Belongs to the host; valid until that poll returns. */
typedef struct chanserv_source_sink {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t wake; /* for host->wake if this poll returns CHANSERV_PENDING; the same in every poll of this call */
    /*
     * Adds a source. `header` is copied. CHANSERV_READY: taken. From now on the host polls `source`, perhaps at once
     * from another thread, so it must be ready. The host calls close_source exactly once. CHANSERV_FULL: not taken,
     * `source` stays with the plugin. CHANSERV_ERROR_TOO_LARGE: not taken, the header is too large. An empty sink takes
     * at least one source.
     */
    chanserv_status (*add)(struct chanserv_source_sink *sink, const void *header, size_t header_size,
                           chanserv_source *source);

    /* Since 1.1. Private to the host: a plugin neither reads nor writes it. */
    void *context;
} chanserv_source_sink;

/* Receives the frames of one poll_frames. Belongs to the host; valid until that poll returns. */
typedef struct chanserv_frame_sink {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t wake; /* for host->wake if this poll returns CHANSERV_PENDING; the same in every poll of this source */
    /*
     * Adds a frame of `size` bytes by copying it into the outgoing buffer. CHANSERV_READY: taken. CHANSERV_FULL: not
     * taken, because the batch has other frames and no room for this one. An empty sink takes every frame up to
     * CHANSERV_FRAME_SIZE_MAX, so a large frame is delayed by one poll, never truncated or refused.
     * CHANSERV_ERROR_TOO_LARGE: not taken, larger than CHANSERV_FRAME_SIZE_MAX.
     */
    chanserv_status (*append)(struct chanserv_frame_sink *sink, const void *data, size_t size);
    /*
     * Reserves at least `minimum` bytes inside the outgoing buffer, for a frame whose length is not known yet. Fill
     * them and call `commit`. Sets *capacity (>= minimum) and returns the start of the frame. A second call before
     * commit enlarges the reservation and keeps its content; the address may change. NULL: this batch has no room
     * (return CHANSERV_READY; an empty sink has room), or `minimum` is larger than CHANSERV_FRAME_SIZE_MAX. A
     * reservation that is not committed when the poll returns is dropped.
     */
    void *(*reserve)(struct chanserv_frame_sink *sink, size_t minimum, size_t *capacity);
    /* Makes a frame of the first `size` bytes of the reservation. `size` must not exceed the capacity. */
    chanserv_status (*commit)(struct chanserv_frame_sink *sink, size_t size);

    /* Since 1.1. Private to the host: a plugin neither reads nor writes it. */
    void *context;
    /*
     * Since 1.1. Adds a frame as `append` does, but the host sends it from the plugin's memory instead of copying it.
     *
     * CHANSERV_READY: taken. The `size` bytes at `data` must not move or change until the host has called
     * `release(context)`. It calls it exactly once: perhaps before `lend` returns, perhaps long after close_source and
     * close_call of the source, but always before destroy of the instance. Any thread may call it, at the same time as
     * any other function of the plugin (also with CHANSERV_PLUGIN_SERIAL) and as other releases. `release` must return
     * as quickly as a poll and must not call the sink. It may call host->wake. CHANSERV_FULL, CHANSERV_ERROR_TOO_LARGE:
     * as `append`. CHANSERV_ERROR_BAD_REQUEST: `data` or `release` is NULL. After any result but CHANSERV_READY nothing
     * was lent: `release` is not called, and the memory stays with the plugin.
     *
     * The same memory may be lent any number of times, each time with its own release. The host copies the frame and
     * releases it at once in these cases: the frame is smaller than 8 KiB, the source is compressed, the frame begins
     * with "lz4!", or the instance has already lent 64 MiB. A plugin must not wait for a release inside one of its
     * functions. It should return CHANSERV_PENDING and call wake in `release`.
     *
     * Never lend a file mapping (mmap of a file). If another process truncates the file, reading the mapping raises
     * SIGBUS, which ends the host. Read the file into memory and lend that.
     */
    chanserv_status (*lend)(struct chanserv_frame_sink *sink, const void *data, size_t size,
                            void (*release)(void *context), void *context);
} chanserv_frame_sink;

/* ---------------------------------------------------------------------------------------------------------------
 * The plugin's table
 * ------------------------------------------------------------------------------------------------------------- */

/* Descriptor flags. The host refuses a descriptor with flags that it does not know. */
enum {
    CHANSERV_PLUGIN_SERIAL = 1 << 0,   /* functions of one instance must never overlap */
    CHANSERV_PLUGIN_BLOCKING = 1 << 1, /* functions may block; they need threads of their own */
    /*
     * Since 1.1. The open, poll and close functions return within microseconds, so the host may call them on a network
     * event loop. Not together with CHANSERV_PLUGIN_BLOCKING. A 1.0 host refuses it; see "Versions" above.
     */
    CHANSERV_PLUGIN_INLINE = 1 << 2
};

/* The table that CHANSERV_ENTRY returns. It is constant and valid until the process ends. No function may be NULL. */
typedef struct chanserv_plugin {
    uint32_t magic;       /* CHANSERV_PLUGIN_MAGIC */
    uint16_t abi_major;   /* CHANSERV_ABI_MAJOR */
    uint16_t abi_minor;   /* CHANSERV_ABI_MINOR */
    uint32_t struct_size; /* sizeof(struct chanserv_plugin) */
    uint32_t flags;       /* CHANSERV_PLUGIN_… */
    const char *name;     /* short, for logs; zero-terminated UTF-8 */
    const char *version;  /* version of the plugin in any format; zero-terminated UTF-8 */

    /*
     * Creates an instance. `config` is valid until the function returns, `host` until destroy has returned. Returns
     * CHANSERV_READY and sets *instance, or returns an error with a message. After an error the host does not start, or
     * rejects the reload and keeps the old generation. May block, but a start or a reload waits for it. Validate the
     * whole configuration here.
     */
    chanserv_status (*create)(const chanserv_host *host, const chanserv_config *config,
                              chanserv_instance **instance, chanserv_error *error);
    /*
     * Frees an instance. Called exactly once, after the last close_call and the last release of a lent frame. May block
     * while it joins its threads.
     */
    void (*destroy)(chanserv_instance *instance);

    /*
     * Begins to serve a request. Returns CHANSERV_READY and sets *call, or returns an error with a message for the
     * client. After an error no other function is called for the request. Several requests of one instance may be
     * opened at the same time.
     */
    chanserv_status (*open)(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                            chanserv_error *error);
    /*
     * Requests sources. Add all available sources until the sink is full, then return CHANSERV_READY (there may be
     * more), CHANSERV_PENDING, CHANSERV_END or an error. An error fails the request at the client; sources that were
     * added go on. Not called again after CHANSERV_END or an error.
     */
    chanserv_status (*poll_sources)(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error);
    /*
     * Requests the early end of a call, because the client is gone or the host is draining. Make a running poll return
     * soon, and wake a call that returned CHANSERV_PENDING. May be called several times, from any thread, and may
     * overlap a poll. Must not block. The results of later polls do not matter (preferably an error). The host may also
     * close the call without another poll.
     */
    void (*cancel_call)(chanserv_call *call);
    /* Frees a call. Called exactly once, after close_source of each of its sources, and never overlaps a poll. */
    void (*close_call)(chanserv_call *call);

    /*
     * Requests frames of a source, as poll_sources does for sources. Frames that are already in the sink are sent
     * whatever the result is. An error ends this source, with the message at the client.
     */
    chanserv_status (*poll_frames)(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
    /* As cancel_call, for a source. */
    void (*cancel_source)(chanserv_source *source);
    /* Frees a source. Always called, exactly once, and never overlaps a poll of it. */
    void (*close_source)(chanserv_source *source);
} chanserv_plugin;

/*
 * The only exported function. Called once for each loaded copy, from any thread. If it returns NULL, the host does not
 * load the library.
 */
CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void);

#ifdef __cplusplus
}
#endif

#endif /* CHANSERV_PLUGIN_H */

"""###,
"chanserv_push.h": ###"""
/*
 * chanserv_push.h: plugins that push frames, built on the plugin ABI (chanserv_plugin.h). Optional and header-only, for
 * C11 and C++. It needs only POSIX threads.
 *
 * The host polls: it requests frames from a plugin whenever the client has room. Code that blocks, for example around a
 * device, a socket or a library with callbacks, is easier to write if it pushes. With this header you write one
 * function. It runs on its own thread for each request, adds sources, pushes frames to them, and blocks while a client
 * reads slowly. This header handles cancellation, backpressure and wakes.
 *
 *
 * A complete plugin
 * -----------------
 *
 * The request names a text file. The plugin serves one source with a frame for each line.
 *
 * [sample]
 * #define _POSIX_C_SOURCE 200809L // for open, fstat and fdopen, also if the compiler is in strict C mode
 * #include "chanserv_push.h"
 *
 * #include <fcntl.h>
 * #include <stdio.h>
 * #include <stdlib.h>
 * #include <string.h>
 * #include <sys/stat.h>
 * #include <unistd.h>
 *
 * struct chanserv_instance {
 *     chanserv_producers producers; // must be the first member
 * };
 *
 * // Opens only regular files. Reading a pipe could block, and then chanserv_push_on_cancel would have to end the read.
 * static FILE *open_file(const char *path) {
 *     struct stat about;
 *     int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // does not wait for a writer of a pipe
 *     if (descriptor < 0) return NULL;
 *     FILE *file = fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) ? fdopen(descriptor, "r") : NULL;
 *     if (file == NULL) close(descriptor);
 *     return file;
 * }
 *
 * static chanserv_status produce(chanserv_instance *instance, const chanserv_request *request,
 *                                chanserv_pusher *pusher, chanserv_error *error) {
 *     (void)instance;
 *     char path[256], line[4096];
 *     if (request->body_size >= sizeof path || memchr(request->body, 0, request->body_size) != NULL) {
 *         snprintf(error->message, error->capacity, "the request is not a path of at most %zu bytes", sizeof path - 1);
 *         return CHANSERV_ERROR_BAD_REQUEST;
 *     }
 *     memcpy(path, request->body, request->body_size);
 *     path[request->body_size] = '\0';
 *     FILE *file = open_file(path);
 *     if (file == NULL) { // without the path: a message must be UTF-8, but a request may be any bytes
 *         snprintf(error->message, error->capacity, "the file does not exist or is not readable");
 *         return CHANSERV_ERROR_NOT_FOUND;
 *     }
 *     chanserv_source *source;
 *     chanserv_status status = chanserv_push_source(pusher, path, strlen(path), &source);
 *     chanserv_push_listed(pusher); // there is only one
 *     while (status == CHANSERV_READY && fgets(line, sizeof line, file) != NULL) {
 *         status = chanserv_push(source, line, strlen(line)); // waits while the client reads slowly
 *     }
 *     if (status == CHANSERV_READY && ferror(file)) {
 *         snprintf(error->message, error->capacity, "reading the file failed");
 *         status = CHANSERV_ERROR_INTERNAL;
 *     }
 *     fclose(file);
 *     return status; // also ends the source
 * }
 *
 * static chanserv_status create(const chanserv_host *host, const chanserv_config *config,
 *                               chanserv_instance **instance, chanserv_error *error) {
 *     chanserv_status status = host->config_only(host, config, NULL, 0, error);
 *     if (status < 0) return status;
 *     chanserv_instance *made = (chanserv_instance *)calloc(1, sizeof *made);
 *     if (made == NULL) return CHANSERV_ERROR_INTERNAL;
 *     status = chanserv_producers_start(&made->producers, host, produce, NULL);
 *     if (status < 0) {
 *         free(made); // after an error, destroy is not called
 *         return status;
 *     }
 *     *instance = made;
 *     return status;
 * }
 *
 * static void destroy(chanserv_instance *instance) {
 *     chanserv_producers_stop(&instance->producers); // waits for its threads
 *     free(instance);
 * }
 *
 * static const chanserv_plugin plugin = CHANSERV_PUSH_DESCRIPTOR("lines", "1", create, destroy);
 *
 * CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void) { return &plugin; }
 * [end]
 *
 *
 * Rules
 * -----
 *
 * - Each request has a thread, created in `open`, which runs your function. If `threads` requests are running, a
 *   further request fails with CHANSERV_ERROR_BUSY. A source may have its own thread in addition
 *   (chanserv_push_source_on_thread). A request counts until its last thread has ended, so there are at most `threads`
 *   x (1 + `source_threads`) threads.
 * - Each source has a bounded queue. A push waits while the queue is full, and continues when the host has taken the
 *   queued frames. A source therefore uses at most twice `bytes` of memory, or twice its largest frame if that is
 *   larger.
 * - Many clients request all sources before they read frames. The list of sources is complete when your function
 *   returns or calls chanserv_push_listed. Do not block in a push before that, or you and such a client wait for each
 *   other. Add all sources before you push to them, or give each source a thread.
 * - When the client is gone, waiting pushes and all later ones fail at once with CHANSERV_PUSH_CANCELLED. Return soon
 *   then; the result is ignored. Sources are cancelled one by one, so other sources of the request may go on.
 * - If your code waits for something other than a push, set a function that ends this wait with
 *   chanserv_push_on_cancel, or call chanserv_push_is_cancelled regularly. Otherwise your function keeps its thread,
 *   and chanserv_producers_stop waits for it. So do `destroy`, a reload and the end of the host.
 * - A C++ exception must not leave your functions. Nothing on their threads catches it, so it ends the host.
 * - The threads block all signals except those that report a fault of the code itself (SIGSEGV, SIGBUS, SIGFPE, SIGILL,
 *   SIGTRAP, SIGSYS), which crash reporters and runtimes need. A program that you start from such a thread inherits the
 *   mask: reset it (POSIX_SPAWN_SETSIGMASK). No thread is left when chanserv_producers_stop has returned.
 * - Do not define macros that begin with CHANSERV_PUSH_: all options are in chanserv_push_options. Include the header
 *   in one source file only. It defines struct chanserv_call and struct chanserv_source, which other plugins define
 *   themselves.
 */
#ifndef CHANSERV_PUSH_H
#define CHANSERV_PUSH_H

#include "chanserv_plugin.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Result of a push or of adding a source: the client is gone. It is never sent to a client. */
enum { CHANSERV_PUSH_CANCELLED = -100 };

/* Maximum size of an error message, including its terminating zero. */
#define CHANSERV_PUSH_MESSAGE_MAX 512

/* One request, passed to the function that serves it. */
typedef struct chanserv_call chanserv_pusher;

/*
 * Serves a request on its own thread. It may block. `request` and everything it points to, `pusher` and the sources
 * that it adds are valid until the function returns. Return CHANSERV_READY (or CHANSERV_END) after success, or an error
 * and a message. Sources that you have not ended by then end in the same way. If no source was added, or the list is
 * not complete, the request ends in the same way.
 */
typedef chanserv_status chanserv_produce(chanserv_instance *instance, const chanserv_request *request,
                                         chanserv_pusher *pusher, chanserv_error *error);

/* Pushes the frames of one source on its own thread. The source ends when the function returns, with its result. */
typedef chanserv_status chanserv_produce_source(void *argument, chanserv_source *source, chanserv_error *error);

/* Called when a request or a source is cancelled. It must not block and must not call a function of this header. */
typedef void chanserv_on_cancel(void *argument);

/* The limits. 0 selects the default. */
typedef struct chanserv_push_options {
    size_t frames;         /* frames in the queue of a source; default 256 */
    size_t bytes;          /* bytes in the queue of a source; default 256 KiB; a larger frame is queued alone */
    size_t sources;        /* sources of a request that the host has not taken; default 64 */
    size_t threads;        /* concurrent requests, each until its last thread has ended; default 64 */
    size_t source_threads; /* concurrent threads of sources in each request; default 16 */
} chanserv_push_options;

/* The threads of an instance. It must be the first member of your struct chanserv_instance. */
typedef struct chanserv_producers {
    const chanserv_host *host;
    chanserv_produce *produce;
    chanserv_push_options options;
    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t idle;
    size_t requests;  /* requests that have a thread */
    size_t running;   /* all threads */
    pthread_t ended;  /* the thread that ended last; each thread joins the previous one */
    int has_ended;
} chanserv_producers;

/* ---------------------------------------------------------------------------------------------------------------
 * Public: functions for create and destroy
 * ------------------------------------------------------------------------------------------------------------- */

/*
 * Call it in create. `options` may be NULL. It starts no thread. Returns CHANSERV_READY, or an error if the system has
 * no resources.
 */
static inline chanserv_status chanserv_producers_start(chanserv_producers *producers, const chanserv_host *host,
                                                       chanserv_produce *produce, const chanserv_push_options *options);
/* Call it in destroy, before anything else. Waits until all functions have returned, and joins their threads. */
static inline void chanserv_producers_stop(chanserv_producers *producers);

/* The descriptor of the plugin: the functions of this header and your create and destroy. */
#define CHANSERV_PUSH_DESCRIPTOR(name, version, create, destroy)                                                        \
    {                                                                                                                   \
        CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), 0, name, version,       \
            create, destroy, chanserv_pushing_open, chanserv_pushing_poll_sources, chanserv_pushing_cancel_call,        \
            chanserv_pushing_close_call, chanserv_pushing_poll_frames, chanserv_pushing_cancel_source,                  \
            chanserv_pushing_close_source                                                                               \
    }

/* ---------------------------------------------------------------------------------------------------------------
 * Public: functions for your produce function and for threads that it waits for
 * ------------------------------------------------------------------------------------------------------------- */

/*
 * Adds a source. `header` is copied. Waits while the host takes no source. CHANSERV_READY: *source is set; it is yours
 * until you end it or your function returns. Other results: CHANSERV_PUSH_CANCELLED; CHANSERV_ERROR_TOO_LARGE;
 * CHANSERV_ERROR_BAD_REQUEST after chanserv_push_listed; CHANSERV_ERROR_INTERNAL if there is no memory. *source is NULL
 * then.
 */
static inline chanserv_status chanserv_push_source(chanserv_pusher *pusher, const void *header, size_t size,
                                                   chanserv_source **source);
/*
 * Adds a source whose frames `produce` pushes on its own thread, in parallel to other sources. It may continue after
 * the function of the request has returned. `argument` belongs to `produce`; if this function fails, `produce` is not
 * called. Waits also while the request has `source_threads` such threads. Further result: CHANSERV_ERROR_BUSY if the
 * system cannot create a thread. A client that requests the next source before it reads its earlier ones waits for ever
 * beyond that limit.
 */
static inline chanserv_status chanserv_push_source_on_thread(chanserv_pusher *pusher, const void *header, size_t size,
                                                             chanserv_produce_source *produce, void *argument);
/* Completes the list of sources. The client is informed at once, not when your function returns. */
static inline void chanserv_push_listed(chanserv_pusher *pusher);

/*
 * Pushes a frame, which is copied. Waits while the queue of the source is full. Returns CHANSERV_READY,
 * CHANSERV_PUSH_CANCELLED, CHANSERV_ERROR_TOO_LARGE (more than CHANSERV_FRAME_SIZE_MAX), or CHANSERV_ERROR_INTERNAL if
 * there is no memory. Any thread may call it. If several threads push to one source, the order of their frames is
 * undefined.
 */
static inline chanserv_status chanserv_push(chanserv_source *source, const void *data, size_t size);
/*
 * As chanserv_push, but the frame is not copied. After CHANSERV_READY the memory must not change until
 * `release(context)` is called, exactly once, by any thread. After any other result it is not called. The rules of
 * `lend` in chanserv_plugin.h apply: the source may be closed before the release, destroy is called after it, and the
 * memory must not be a file mapping. A host of version 1.0 copies the frame when it takes it.
 * CHANSERV_ERROR_BAD_REQUEST: `release` is NULL.
 */
static inline chanserv_status chanserv_push_lent(chanserv_source *source, const void *data, size_t size,
                                                 void (*release)(void *context), void *context);

/* Ends a source of chanserv_push_source: it is complete and no longer yours. The client receives all pushed frames. */
static inline void chanserv_push_end(chanserv_source *source);
/* Ends a source with an error (CHANSERV_ERROR_…) and a message, after all pushed frames. */
static inline void chanserv_push_fail(chanserv_source *source, chanserv_status status, const char *message);

/* Whether the request, or one source, is cancelled. */
static inline int chanserv_push_is_cancelled(chanserv_pusher *pusher);
static inline int chanserv_push_source_is_cancelled(chanserv_source *source);
/*
 * Sets a function that is called once when the request is cancelled, or at once if it is already cancelled. It replaces
 * the earlier function. NULL removes it; it is not running after that. Remove it before `argument` becomes invalid and
 * before your function returns.
 */
static inline void chanserv_push_on_cancel(chanserv_pusher *pusher, chanserv_on_cancel *function, void *argument);
/* As chanserv_push_on_cancel, for one source. */
static inline void chanserv_push_source_on_cancel(chanserv_source *source, chanserv_on_cancel *function,
                                                  void *argument);

/* ---------------------------------------------------------------------------------------------------------------
 * Private: the implementation
 *
 * The host and the producer each hold a reference to a call and to a source; the last release frees it. Locks are taken
 * in the order call, source, producers. `wake` is called with locks held: it never blocks and never calls back.
 * ------------------------------------------------------------------------------------------------------------- */

struct chanserv_pushing_frame {
    struct chanserv_pushing_frame *next;
    size_t size;
    const void *bytes;
    void (*release)(void *context); /* of a lent frame; NULL: the bytes follow the struct */
    void *context;
};

/* Minimum size of a copied frame that is lent to the host. The host would copy smaller ones. */
#define CHANSERV_PUSHING_LENT_MIN ((size_t)8192)

/* The state of a call or a source: its end, and the handle that wakes the host. */
struct chanserv_pushing_side {
    int references;
    int is_cancelled;  /* the host accepts no more */
    int is_over;       /* the producer adds no more */
    int is_waited_for; /* the last poll returned PENDING */
    uint64_t wake;
    chanserv_status result;
    char message[CHANSERV_PUSH_MESSAGE_MAX];
    chanserv_on_cancel *on_cancel;
    void *on_cancel_argument;
};

struct chanserv_source {
    struct chanserv_call *call;
    struct chanserv_source *next;                     /* not passed to the host yet; under the lock of the call */
    struct chanserv_source *next_open, *previous_open; /* not ended yet; under the lock of the call */
    chanserv_produce_source *produce;                 /* runs on its own thread; may be NULL */
    void *argument;
    size_t header_size; /* the header follows the struct */

    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t room;
    struct chanserv_pushing_side side;
    struct chanserv_pushing_frame *first, *last;
    size_t frames, bytes;

    struct chanserv_pushing_frame *taken; /* taken by the host and not sent yet; only polls use it */
};

struct chanserv_call {
    chanserv_instance *instance;
    chanserv_producers *producers;
    chanserv_request request; /* the memory that it points to follows the struct */

    pthread_mutex_t lock; /* protects the fields below */
    pthread_cond_t room;
    struct chanserv_pushing_side side;
    struct chanserv_source *first, *last; /* not passed to the host yet */
    size_t sources;
    struct chanserv_source *open; /* sources of chanserv_push_source that have not ended */
    size_t source_threads;
    int has_thread; /* whether the thread that runs the function has not ended */
};

/* ---- State of a call or a source; called with its lock held ---- */

static inline void chanserv_pushing_wake(chanserv_producers *producers, struct chanserv_pushing_side *side) {
    if (side->is_waited_for) {
        side->is_waited_for = 0;
        producers->host->wake(producers->host, side->wake);
    }
}

static inline void chanserv_pushing_cancel(struct chanserv_pushing_side *side) {
    chanserv_on_cancel *function = side->on_cancel;
    side->is_cancelled = 1;
    side->on_cancel = NULL;
    if (function != NULL) {
        function(side->on_cancel_argument);
    }
}

static inline void chanserv_pushing_on_cancel(struct chanserv_pushing_side *side, chanserv_on_cancel *function,
                                              void *argument) {
    side->on_cancel = function;
    side->on_cancel_argument = argument;
    if (side->is_cancelled) {
        chanserv_pushing_cancel(side);
    }
}

static inline void chanserv_pushing_over(struct chanserv_pushing_side *side, chanserv_status status,
                                         const char *message) {
    if (side->is_over) {
        return;
    }
    side->is_over = 1;
    side->result = status < 0 ? status : CHANSERV_END;
    if (status < 0 && message != NULL) {
        size_t size = strlen(message);
        size = size < sizeof side->message ? size : sizeof side->message - 1;
        memcpy(side->message, message, size); /* the rest is zero */
    }
}

/* Returns the result of a poll that found nothing to take. */
static inline chanserv_status chanserv_pushing_answer(struct chanserv_pushing_side *side, uint64_t wake,
                                                      chanserv_error *error) {
    const char *message = side->message;
    if (side->is_cancelled) {
        message = "cancelled";
    } else if (!side->is_over) {
        side->wake = wake;
        side->is_waited_for = 1;
        return CHANSERV_PENDING;
    } else if (side->result >= 0) {
        return CHANSERV_END;
    }
    if (error->capacity > 0) {
        size_t size = strlen(message);
        size = size < error->capacity ? size : error->capacity - 1;
        memcpy(error->message, message, size);
        error->message[size] = '\0';
    }
    return side->is_cancelled ? CHANSERV_ERROR_INTERNAL : side->result;
}

/* ---- Releasing calls and sources ---- */

static inline void chanserv_pushing_release_call(struct chanserv_call *call) {
    pthread_mutex_lock(&call->lock);
    int left = --call->side.references;
    pthread_mutex_unlock(&call->lock);
    if (left == 0) {
        pthread_cond_destroy(&call->room);
        pthread_mutex_destroy(&call->lock);
        free(call);
    }
}

static inline void chanserv_pushing_free_frames(struct chanserv_pushing_frame *frame) {
    while (frame != NULL) {
        struct chanserv_pushing_frame *next = frame->next;
        if (frame->release != NULL) {
            frame->release(frame->context);
        }
        free(frame);
        frame = next;
    }
}

static inline void chanserv_pushing_release_source(struct chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    int left = --source->side.references;
    pthread_mutex_unlock(&source->lock);
    if (left == 0) {
        struct chanserv_call *call = source->call;
        chanserv_pushing_free_frames(source->first);
        pthread_cond_destroy(&source->room);
        pthread_mutex_destroy(&source->lock);
        free(source);
        chanserv_pushing_release_call(call);
    }
}

/* ---- Threads ---- */

/* The creator's mask is changed while it creates the thread, so that the thread starts with the changed mask. */
static inline int chanserv_pushing_create_thread(pthread_t *thread, void *(*run)(void *), void *argument) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        sigdelset(&blocked, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int failed = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

/* Each thread joins the one that ended before it. chanserv_producers_stop joins the last one. */
static inline void chanserv_pushing_thread_ends(chanserv_producers *producers, int was_last_of_request) {
    pthread_mutex_lock(&producers->lock);
    pthread_t before = producers->ended;
    int joins = producers->has_ended;
    producers->ended = pthread_self();
    producers->has_ended = 1;
    producers->requests -= was_last_of_request ? 1 : 0;
    if (--producers->running == 0) {
        pthread_cond_broadcast(&producers->idle);
    }
    pthread_mutex_unlock(&producers->lock);
    if (joins) {
        pthread_join(before, NULL);
    }
}

/* Starts a thread. Returns 0, or CHANSERV_ERROR_BUSY and a message. */
static inline chanserv_status chanserv_pushing_start_thread(chanserv_producers *producers, int is_request,
                                                            void *(*run)(void *), void *argument,
                                                            const char **message) {
    pthread_t thread;
    chanserv_status status = CHANSERV_READY;
    pthread_mutex_lock(&producers->lock);
    if (is_request && producers->requests >= producers->options.threads) {
        *message = "the plugin has reached its limit of requests with a thread";
        status = CHANSERV_ERROR_BUSY;
    } else if (chanserv_pushing_create_thread(&thread, run, argument) != 0) {
        *message = "the system cannot create a thread";
        status = CHANSERV_ERROR_BUSY;
    } else {
        producers->requests += is_request ? 1 : 0;
        producers->running++;
    }
    pthread_mutex_unlock(&producers->lock);
    return status;
}

static inline void chanserv_pushing_end_source(struct chanserv_source *source, chanserv_status status,
                                               const char *message) {
    struct chanserv_call *call = source->call;
    if (source->produce == NULL) {
        pthread_mutex_lock(&call->lock);
        *(source->previous_open != NULL ? &source->previous_open->next_open : &call->open) = source->next_open;
        if (source->next_open != NULL) {
            source->next_open->previous_open = source->previous_open;
        }
        pthread_mutex_unlock(&call->lock);
    }
    pthread_mutex_lock(&source->lock);
    source->side.on_cancel = NULL;
    chanserv_pushing_over(&source->side, status, message);
    chanserv_pushing_wake(call->producers, &source->side);
    pthread_mutex_unlock(&source->lock);
    chanserv_pushing_release_source(source);
}

static inline void *chanserv_pushing_run_call(void *argument) {
    struct chanserv_call *call = (struct chanserv_call *)argument;
    chanserv_producers *producers = call->producers;
    char message[CHANSERV_PUSH_MESSAGE_MAX] = "";
    chanserv_error error = {message, sizeof message};
    chanserv_status status = producers->produce(call->instance, &call->request, call, &error);
    while (call->open != NULL) { /* only this thread adds to it; by contract no other thread ends sources now */
        chanserv_pushing_end_source(call->open, status, message);
    }
    pthread_mutex_lock(&call->lock);
    call->side.on_cancel = NULL;
    chanserv_pushing_over(&call->side, status, message);
    chanserv_pushing_wake(producers, &call->side);
    call->has_thread = 0; /* no source gets a thread any more */
    int is_last = call->source_threads == 0;
    pthread_mutex_unlock(&call->lock);
    chanserv_pushing_release_call(call);
    chanserv_pushing_thread_ends(producers, is_last);
    return NULL;
}

static inline void *chanserv_pushing_run_source(void *argument) {
    struct chanserv_source *source = (struct chanserv_source *)argument;
    struct chanserv_call *call = source->call;
    chanserv_producers *producers = call->producers;
    char message[CHANSERV_PUSH_MESSAGE_MAX] = "";
    chanserv_error error = {message, sizeof message};
    chanserv_status status = source->produce(source->argument, source, &error);
    /* Before the source is released, which may free the call. */
    pthread_mutex_lock(&call->lock);
    call->source_threads--;
    int is_last = call->source_threads == 0 && !call->has_thread;
    pthread_cond_broadcast(&call->room);
    pthread_mutex_unlock(&call->lock);
    chanserv_pushing_end_source(source, status, message);
    chanserv_pushing_thread_ends(producers, is_last);
    return NULL;
}

static inline chanserv_status chanserv_producers_start(chanserv_producers *producers, const chanserv_host *host,
                                                       chanserv_produce *produce,
                                                       const chanserv_push_options *options) {
    chanserv_push_options chosen = {0, 0, 0, 0, 0};
    if (options != NULL) {
        chosen = *options;
    }
    chosen.frames = chosen.frames != 0 ? chosen.frames : 256;
    chosen.bytes = chosen.bytes != 0 ? chosen.bytes : 256 * 1024;
    chosen.sources = chosen.sources != 0 ? chosen.sources : 64;
    chosen.threads = chosen.threads != 0 ? chosen.threads : 64;
    chosen.source_threads = chosen.source_threads != 0 ? chosen.source_threads : 16;
    producers->host = host;
    producers->produce = produce;
    producers->options = chosen;
    producers->requests = 0;
    producers->running = 0;
    producers->has_ended = 0;
    if (pthread_mutex_init(&producers->lock, NULL) != 0) {
        return CHANSERV_ERROR_INTERNAL;
    }
    if (pthread_cond_init(&producers->idle, NULL) != 0) {
        pthread_mutex_destroy(&producers->lock);
        return CHANSERV_ERROR_INTERNAL;
    }
    return CHANSERV_READY;
}

static inline void chanserv_producers_stop(chanserv_producers *producers) {
    pthread_mutex_lock(&producers->lock);
    while (producers->running > 0) {
        pthread_cond_wait(&producers->idle, &producers->lock);
    }
    pthread_mutex_unlock(&producers->lock);
    if (producers->has_ended) {
        pthread_join(producers->ended, NULL);
    }
    pthread_cond_destroy(&producers->idle);
    pthread_mutex_destroy(&producers->lock);
}

/* ---- The producer ---- */

static inline chanserv_status chanserv_pushing_add(chanserv_pusher *call, const void *header, size_t size,
                                                   chanserv_produce_source *produce, void *argument,
                                                   chanserv_source **result) {
    const chanserv_push_options *options = &call->producers->options;
    if (size > CHANSERV_FRAME_SIZE_MAX) {
        return CHANSERV_ERROR_TOO_LARGE;
    }
    struct chanserv_source *source = (struct chanserv_source *)calloc(1, sizeof *source + size);
    if (source == NULL || pthread_mutex_init(&source->lock, NULL) != 0) {
        free(source);
        return CHANSERV_ERROR_INTERNAL;
    }
    if (pthread_cond_init(&source->room, NULL) != 0) {
        pthread_mutex_destroy(&source->lock);
        free(source);
        return CHANSERV_ERROR_INTERNAL;
    }
    source->call = call;
    source->produce = produce;
    source->argument = argument;
    source->header_size = size;
    source->side.references = 2;
    if (size > 0) {
        memcpy(source + 1, header, size);
    }

    const char *message; /* not used: the status is sufficient here */
    chanserv_status status = CHANSERV_READY;
    pthread_mutex_lock(&call->lock);
    while (!call->side.is_cancelled && !call->side.is_over &&
           (call->sources >= options->sources ||
            (produce != NULL && call->source_threads >= options->source_threads))) {
        pthread_cond_wait(&call->room, &call->lock);
    }
    if (call->side.is_cancelled) {
        status = CHANSERV_PUSH_CANCELLED;
    } else if (call->side.is_over) {
        status = CHANSERV_ERROR_BAD_REQUEST;
    } else if (produce != NULL) {
        status = chanserv_pushing_start_thread(call->producers, 0, chanserv_pushing_run_source, source, &message);
    }
    if (status == CHANSERV_READY) {
        call->side.references++;
        *(call->first != NULL ? &call->last->next : &call->first) = source;
        call->last = source;
        call->sources++;
        if (produce != NULL) {
            call->source_threads++;
        } else {
            source->next_open = call->open;
            if (call->open != NULL) {
                call->open->previous_open = source;
            }
            call->open = source;
        }
        chanserv_pushing_wake(call->producers, &call->side);
    }
    pthread_mutex_unlock(&call->lock);
    if (status != CHANSERV_READY) {
        pthread_cond_destroy(&source->room);
        pthread_mutex_destroy(&source->lock);
        free(source);
        return status;
    }
    *result = source;
    return CHANSERV_READY;
}

static inline chanserv_status chanserv_push_source(chanserv_pusher *pusher, const void *header, size_t size,
                                                   chanserv_source **source) {
    *source = NULL;
    return chanserv_pushing_add(pusher, header, size, NULL, NULL, source);
}

static inline chanserv_status chanserv_push_source_on_thread(chanserv_pusher *pusher, const void *header, size_t size,
                                                             chanserv_produce_source *produce, void *argument) {
    chanserv_source *source;
    return chanserv_pushing_add(pusher, header, size, produce, argument, &source);
}

static inline void chanserv_push_listed(chanserv_pusher *pusher) {
    pthread_mutex_lock(&pusher->lock);
    chanserv_pushing_over(&pusher->side, CHANSERV_END, NULL);
    chanserv_pushing_wake(pusher->producers, &pusher->side);
    pthread_mutex_unlock(&pusher->lock);
}

/* Adds a frame to the queue when there is room. CHANSERV_READY: the frame belongs to the queue. */
static inline chanserv_status chanserv_pushing_add_frame(chanserv_source *source,
                                                         struct chanserv_pushing_frame *frame) {
    const chanserv_push_options *options = &source->call->producers->options;
    pthread_mutex_lock(&source->lock);
    while (!source->side.is_cancelled && source->frames > 0 &&
           (source->frames >= options->frames || source->bytes + frame->size > options->bytes)) {
        pthread_cond_wait(&source->room, &source->lock);
    }
    int is_cancelled = source->side.is_cancelled;
    if (!is_cancelled) {
        *(source->first != NULL ? &source->last->next : &source->first) = frame;
        source->last = frame;
        source->frames++;
        source->bytes += frame->size;
        chanserv_pushing_wake(source->call->producers, &source->side);
    }
    pthread_mutex_unlock(&source->lock);
    return is_cancelled ? (chanserv_status)CHANSERV_PUSH_CANCELLED : (chanserv_status)CHANSERV_READY;
}

static inline chanserv_status chanserv_push(chanserv_source *source, const void *data, size_t size) {
    if (size > CHANSERV_FRAME_SIZE_MAX) {
        return CHANSERV_ERROR_TOO_LARGE;
    }
    struct chanserv_pushing_frame *frame = (struct chanserv_pushing_frame *)malloc(sizeof *frame + size);
    if (frame == NULL) {
        return CHANSERV_ERROR_INTERNAL;
    }
    frame->next = NULL;
    frame->size = size;
    frame->bytes = frame + 1;
    frame->release = NULL;
    frame->context = NULL;
    if (size > 0) {
        memcpy(frame + 1, data, size);
    }
    chanserv_status status = chanserv_pushing_add_frame(source, frame);
    if (status != CHANSERV_READY) {
        free(frame);
    }
    return status;
}

static inline chanserv_status chanserv_push_lent(chanserv_source *source, const void *data, size_t size,
                                                 void (*release)(void *context), void *context) {
    if (size > CHANSERV_FRAME_SIZE_MAX) {
        return CHANSERV_ERROR_TOO_LARGE;
    }
    if (release == NULL) {
        return CHANSERV_ERROR_BAD_REQUEST;
    }
    struct chanserv_pushing_frame *frame = (struct chanserv_pushing_frame *)malloc(sizeof *frame);
    if (frame == NULL) {
        return CHANSERV_ERROR_INTERNAL;
    }
    frame->next = NULL;
    frame->size = size;
    frame->bytes = data;
    frame->release = release;
    frame->context = context;
    chanserv_status status = chanserv_pushing_add_frame(source, frame);
    if (status != CHANSERV_READY) {
        free(frame);
    }
    return status;
}

static inline void chanserv_push_end(chanserv_source *source) {
    chanserv_pushing_end_source(source, CHANSERV_END, NULL);
}

static inline void chanserv_push_fail(chanserv_source *source, chanserv_status status, const char *message) {
    chanserv_pushing_end_source(source, status < 0 ? status : CHANSERV_ERROR_INTERNAL, message);
}

static inline int chanserv_push_is_cancelled(chanserv_pusher *pusher) {
    pthread_mutex_lock(&pusher->lock);
    int is_cancelled = pusher->side.is_cancelled;
    pthread_mutex_unlock(&pusher->lock);
    return is_cancelled;
}

static inline int chanserv_push_source_is_cancelled(chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    int is_cancelled = source->side.is_cancelled;
    pthread_mutex_unlock(&source->lock);
    return is_cancelled;
}

static inline void chanserv_push_on_cancel(chanserv_pusher *pusher, chanserv_on_cancel *function, void *argument) {
    pthread_mutex_lock(&pusher->lock);
    chanserv_pushing_on_cancel(&pusher->side, function, argument);
    pthread_mutex_unlock(&pusher->lock);
}

static inline void chanserv_push_source_on_cancel(chanserv_source *source, chanserv_on_cancel *function,
                                                  void *argument) {
    pthread_mutex_lock(&source->lock);
    chanserv_pushing_on_cancel(&source->side, function, argument);
    pthread_mutex_unlock(&source->lock);
}

/* ---- The host: functions of the descriptor ---- */

/*
 * Returns a request with all fields of this header. Fields that a host of version 1.0 does not provide have the values
 * of a request in which the client did not set them.
 */
static inline chanserv_request chanserv_pushing_full(const chanserv_request *request) {
    chanserv_request full;
    memset(&full, 0, sizeof full);
    full.deadline = -1;
    full.peer_address = "";
    full.identity = "";
    memcpy(&full, request, request->struct_size < sizeof full ? request->struct_size : sizeof full);
    full.struct_size = sizeof full;
    return full;
}

static inline chanserv_status chanserv_pushing_open(chanserv_instance *instance, const chanserv_request *request,
                                                    chanserv_call **result, chanserv_error *error) {
    const char *message = "out of memory";
    chanserv_request copy = chanserv_pushing_full(request);
    const char **texts[] = {&copy.vaddr, &copy.remote_address, &copy.meta,    &copy.bucket,
                            &copy.traceparent, &copy.peer_address, &copy.identity};
    size_t count = sizeof texts / sizeof *texts, size = request->body_size;
    for (size_t i = 0; i < count; i++) {
        size += *texts[i] != NULL ? strlen(*texts[i]) + 1 : 0;
    }
    struct chanserv_call *call = (struct chanserv_call *)calloc(1, sizeof *call + size);
    chanserv_status status = CHANSERV_ERROR_INTERNAL;
    if (call == NULL || pthread_mutex_init(&call->lock, NULL) != 0) {
        goto failed;
    }
    if (pthread_cond_init(&call->room, NULL) != 0) {
        pthread_mutex_destroy(&call->lock);
        goto failed;
    }
    call->instance = instance;
    call->producers = (chanserv_producers *)(void *)instance;
    call->side.references = 2;
    call->has_thread = 1;
    {
        char *place = (char *)(call + 1);
        copy.body = memcpy(place, request->body, request->body_size);
        place += request->body_size;
        for (size_t i = 0; i < count; i++) {
            if (*texts[i] != NULL) {
                size_t text_size = strlen(*texts[i]) + 1;
                *texts[i] = (const char *)memcpy(place, *texts[i], text_size);
                place += text_size;
            }
        }
        call->request = copy;
    }
    status = chanserv_pushing_start_thread(call->producers, 1, chanserv_pushing_run_call, call, &message);
    if (status == CHANSERV_READY) {
        *result = call;
        return CHANSERV_READY;
    }
    pthread_cond_destroy(&call->room);
    pthread_mutex_destroy(&call->lock);

failed:
    free(call);
    if (error->capacity > strlen(message)) {
        strcpy(error->message, message);
    }
    return status;
}

/* Cancels a source and wakes the threads that push to it. */
static inline void chanserv_pushing_stop_source(chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    chanserv_pushing_cancel(&source->side);
    pthread_cond_broadcast(&source->room);
    chanserv_pushing_wake(source->call->producers, &source->side);
    pthread_mutex_unlock(&source->lock);
}

static inline chanserv_status chanserv_pushing_poll_sources(chanserv_call *call, chanserv_source_sink *sink,
                                                            chanserv_error *error) {
    chanserv_status status = CHANSERV_READY;
    pthread_mutex_lock(&call->lock);
    while (call->first != NULL && !call->side.is_cancelled) {
        struct chanserv_source *source = call->first;
        call->first = source->next; /* still counted in `sources` */
        /* Without the lock, because the host may poll the source at once on another thread. */
        pthread_mutex_unlock(&call->lock);
        status = sink->add(sink, source + 1, source->header_size, source);
        pthread_mutex_lock(&call->lock);
        if (status != CHANSERV_READY) {
            source->next = call->first;
            call->last = call->first != NULL ? call->last : source;
            call->first = source;
            if (call->side.is_cancelled) { /* cancelled while it was not in the list */
                chanserv_pushing_stop_source(source);
            }
            break;
        }
        call->sources--;
        pthread_cond_broadcast(&call->room);
    }
    if (status == CHANSERV_READY) {
        status = chanserv_pushing_answer(&call->side, sink->wake, error);
    } else if (status == CHANSERV_FULL) {
        status = CHANSERV_READY;
    }
    pthread_mutex_unlock(&call->lock);
    return status;
}

static inline void chanserv_pushing_cancel_call(chanserv_call *call) {
    pthread_mutex_lock(&call->lock);
    chanserv_pushing_cancel(&call->side);
    pthread_cond_broadcast(&call->room);
    for (struct chanserv_source *source = call->first; source != NULL; source = source->next) {
        chanserv_pushing_stop_source(source); /* the host does not know these, so it cannot cancel them */
    }
    chanserv_pushing_wake(call->producers, &call->side);
    pthread_mutex_unlock(&call->lock);
}

static inline void chanserv_pushing_cancel_source(chanserv_source *source) {
    chanserv_pushing_stop_source(source);
}

/* Passes a frame to the host. CHANSERV_READY: it was taken, and its struct may already be freed. */
static inline chanserv_status chanserv_pushing_offer(struct chanserv_pushing_frame *frame,
                                                     chanserv_frame_sink *sink) {
    int lends = CHANSERV_HAS(sink, chanserv_frame_sink, lend);
    if (frame->release == NULL && lends && frame->size >= CHANSERV_PUSHING_LENT_MIN) {
        return sink->lend(sink, frame->bytes, frame->size, free, frame);
    }
    chanserv_status status = frame->release != NULL && lends
                                 ? sink->lend(sink, frame->bytes, frame->size, frame->release, frame->context)
                                 : sink->append(sink, frame->bytes, frame->size);
    if (status != CHANSERV_READY) {
        return status;
    }
    if (frame->release != NULL && !lends) {
        frame->release(frame->context);
    }
    free(frame);
    return CHANSERV_READY;
}

static inline chanserv_status chanserv_pushing_poll_frames(chanserv_source *source, chanserv_frame_sink *sink,
                                                           chanserv_error *error) {
    for (;;) {
        while (source->taken != NULL) {
            struct chanserv_pushing_frame *next = source->taken->next;
            chanserv_status status = chanserv_pushing_offer(source->taken, sink);
            if (status != CHANSERV_READY) {
                return status == CHANSERV_FULL ? CHANSERV_READY : status;
            }
            source->taken = next;
        }
        pthread_mutex_lock(&source->lock);
        source->taken = source->first;
        source->first = NULL;
        source->frames = 0;
        source->bytes = 0;
        if (source->taken == NULL || source->side.is_cancelled) {
            chanserv_status status = chanserv_pushing_answer(&source->side, sink->wake, error);
            pthread_mutex_unlock(&source->lock);
            return status;
        }
        pthread_cond_broadcast(&source->room);
        pthread_mutex_unlock(&source->lock);
    }
}

static inline void chanserv_pushing_close_source(chanserv_source *source) {
    pthread_mutex_lock(&source->lock);
    source->side.is_waited_for = 0;
    chanserv_pushing_cancel(&source->side);
    pthread_cond_broadcast(&source->room);
    pthread_mutex_unlock(&source->lock);
    chanserv_pushing_free_frames(source->taken);
    source->taken = NULL;
    chanserv_pushing_release_source(source);
}

static inline void chanserv_pushing_close_call(chanserv_call *call) {
    pthread_mutex_lock(&call->lock);
    call->side.is_waited_for = 0;
    chanserv_pushing_cancel(&call->side);
    pthread_cond_broadcast(&call->room);
    struct chanserv_source *source = call->first;
    call->first = NULL;
    call->sources = 0;
    pthread_mutex_unlock(&call->lock);
    while (source != NULL) { /* the host does not know these */
        struct chanserv_source *next = source->next;
        chanserv_pushing_close_source(source);
        source = next;
    }
    chanserv_pushing_release_call(call);
}

#ifdef __cplusplus
}
#endif

#endif /* CHANSERV_PUSH_H */

"""###,
"module.modulemap": ###"""
module CChanservPlugin {
    // Only the contract: chanserv_push.h defines what is the plugin's own here.
    header "chanserv_plugin.h"
    export *
}

"""###,
    ]

    /// What the C target of the Swift SDK has beside them.
    static let sdkC: [String: String] = [
"layout.c": ###"""
/* Checks the layout of ABI 1.0 and 1.1. A change that would break compiled plugins does not compile. */
#include "chanserv_plugin.h"

#if UINTPTR_MAX == UINT64_MAX
/* 1.0: the first field of 1.1 begins at the end of the struct of 1.0. */
_Static_assert(sizeof(chanserv_plugin) == 104, "struct chanserv_plugin only ever grows at its end");
_Static_assert(offsetof(chanserv_plugin, close_source) == 96, "fields of struct chanserv_plugin never move");
_Static_assert(offsetof(chanserv_host, config_path) == 104, "fields of struct chanserv_host never move");
_Static_assert(offsetof(chanserv_host, context) == 112, "struct chanserv_host only ever grows at its end");
_Static_assert(offsetof(chanserv_request, deadline) == 40, "struct chanserv_request only ever grows at its end");
_Static_assert(offsetof(chanserv_source_sink, context) == 24, "struct chanserv_source_sink only ever grows at its end");
_Static_assert(offsetof(chanserv_frame_sink, context) == 40, "struct chanserv_frame_sink only ever grows at its end");
/* 1.1. */
_Static_assert(sizeof(chanserv_host) == 128, "struct chanserv_host only ever grows at its end");
_Static_assert(offsetof(chanserv_host, config_keys) == 120, "fields of struct chanserv_host never move");
_Static_assert(sizeof(chanserv_request) == 96, "struct chanserv_request only ever grows at its end");
_Static_assert(offsetof(chanserv_request, flags) == 88, "fields of struct chanserv_request never move");
_Static_assert(sizeof(chanserv_source_sink) == 32, "struct chanserv_source_sink only ever grows at its end");
_Static_assert(sizeof(chanserv_frame_sink) == 56, "struct chanserv_frame_sink only ever grows at its end");
_Static_assert(offsetof(chanserv_frame_sink, lend) == 48, "fields of struct chanserv_frame_sink never move");
#endif

"""###,
    ]

    /// The Swift SDK.
    static let sdk: [String: String] = [
"Configuration/Configuration+Decoding.swift": ###"""
extension Configuration {
    /// Decodes the whole configuration into a type of the plugin.
    ///
    /// ```swift
    /// struct Options: Decodable {
    ///     let root: ConfiguredPath      // required
    ///     let interval: Duration?       // may be left out
    /// }
    /// let options = try configuration.decode(Options.self)
    /// ```
    ///
    /// Supported are text, numbers, booleans, lists, dictionaries, types made of these, `Duration` (`30s`),
    /// ``ByteSize`` (`64KiB`) and ``ConfiguredPath``. If a value is not a case of a `CaseIterable` enumeration of
    /// texts, the error message lists the cases. A key whose value is null counts as absent.
    ///
    /// - Throws: ``PluginError`` that states the place in the file and the key: for a value of another type, for a
    ///   missing key, and for a key that the type does not have, with the most similar known key. A `DecodingError`
    ///   that the type's own `init(from:)` throws gets its place too.
    public func decode<Options: Decodable>(_ type: Options.Type = Options.self) throws -> Options {
        try decode(type, defaults: nil)
    }

    /// Decodes the whole configuration. The values of `example` apply to keys that the configuration does not set.
    ///
    /// ```swift
    /// struct Options: Codable {
    ///     var sources = 1
    ///     var interval = Duration.seconds(1)
    /// }
    /// let options = try configuration.decode(over: Options())
    /// ```
    ///
    /// The same holds for the properties of nested types. Lists and dictionaries are replaced as a whole.
    ///
    /// - Throws: as ``decode(_:)``.
    public func decode<Options: Codable>(over example: Options) throws -> Options {
        try decode(Options.self, defaults: ConfigurationDefaults(of: example))
    }

    private func decode<Options: Decodable>(_ type: Options.Type, defaults: ConfigurationDefaults?) throws -> Options {
        let tree = try getters.json().map { json throws(PluginError) in try ConfigurationTree(json: json) }
        let decoder = ConfigurationDecoder(
            getters: getters, node: tree ?? .mapping([]), codingPath: [], defaults: defaults)
        do {
            return try decoder.decode(type)
        } catch let error as DecodingError {
            throw decoder.describe(error)
        }
    }
}

"""###,
"Configuration/Configuration.swift": ###"""
import CChanservPlugin

/// The value under `config:` of this instance. It is readable only during the plugin's initialiser.
///
/// ``decode(_:)`` reads all of it into a type of the plugin. The other functions read one value each. A path names the
/// value: keys separated by dots, and list elements by their index, e.g. `limits.0.size`. These functions return `nil`
/// if the key is absent. If the value has another type, they throw a ``PluginError`` that states the place in the file.
public struct Configuration: ~Copyable {
    let getters: ConfigurationGetters

    init(host: UnsafePointer<chanserv_host>, config: OpaquePointer?) {
        getters = ConfigurationGetters(host: host, config: config)
    }

    /// Throws if there is a top-level key that is not in `keys`. This makes a misspelt option an error at start.
    public func only(_ keys: [String]) throws(PluginError) { try getters.only(keys) }

    /// Returns a text.
    public func string(_ path: String) throws(PluginError) -> String? { try getters.string(path) }

    /// Returns a file system path. A relative path is resolved against the folder of the configuration file.
    public func path(_ path: String) throws(PluginError) -> String? { try getters.path(path) }

    /// Returns an integer.
    public func integer(_ path: String) throws(PluginError) -> Int? { try getters.integer(path).map { Int($0) } }

    /// Returns a number.
    public func number(_ path: String) throws(PluginError) -> Double? { try getters.number(path) }

    /// Returns `true` or `false`.
    public func boolean(_ path: String) throws(PluginError) -> Bool? { try getters.boolean(path) }

    /// Returns a duration such as `250ms`, `30s`, `5m` or `1h`.
    public func duration(_ path: String) throws(PluginError) -> Duration? { try getters.duration(path) }

    /// Returns a size in bytes, configured for example as `512`, `64KiB`, `100MiB` or `1GiB`.
    public func size(_ path: String) throws(PluginError) -> UInt64? { try getters.size(path) }

    /// Returns the number of elements of a list.
    public func count(_ path: String) throws(PluginError) -> Int? { try getters.count(path) }

    /// Returns the whole configuration as JSON text.
    public func json() throws(PluginError) -> String? { try getters.json() }
}

"""###,
"Configuration/ConfigurationContainers.swift": ###"""
/// Decodes a mapping.
struct KeyedContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let decoder: ConfigurationDecoder

    var codingPath: [any CodingKey] { decoder.codingPath }

    var allKeys: [Key] {
        decoder.keys.isOpen = true
        guard case .mapping(let entries) = decoder.node else { return [] }
        return entries.filter { !$0.value.isNull }.compactMap { Key(stringValue: $0.key) }
    }

    func contains(_ key: Key) -> Bool {
        decoder.keys.insert(key.stringValue)
        return decoder.node[key.stringValue] != nil || decoder.defaults?[key.stringValue] != nil
    }

    func decodeNil(forKey key: Key) -> Bool { !contains(key) }

    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        decoder.keys.insert(key.stringValue)
        let standard = decoder.defaults?[key.stringValue]
        guard let node = decoder.node[key.stringValue] else {
            guard let value = standard as? Value else { throw decoder.missing(key) }
            return value
        }
        return try decoder.child(key, node, ConfigurationDefaults(of: standard, for: node)).decode(type)
    }

    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> {
        try below(key).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try below(key).unkeyedContainer()
    }

    func superDecoder() throws -> any Decoder { decoder }
    func superDecoder(forKey key: Key) throws -> any Decoder { try below(key) }

    private func below(_ key: Key) throws -> ConfigurationDecoder {
        decoder.keys.insert(key.stringValue)
        guard let node = decoder.node[key.stringValue] else { throw decoder.missing(key) }
        return decoder.child(key, node)
    }
}

/// Decodes a list.
struct ListContainer: UnkeyedDecodingContainer {
    let decoder: ConfigurationDecoder
    let elements: [ConfigurationTree]
    private(set) var currentIndex = 0

    init(decoder: ConfigurationDecoder, elements: [ConfigurationTree]) {
        self.decoder = decoder
        self.elements = elements
    }

    var codingPath: [any CodingKey] { decoder.codingPath }
    var count: Int? { elements.count }
    var isAtEnd: Bool { currentIndex == elements.count }

    mutating func decodeNil() throws -> Bool {
        guard !isAtEnd, elements[currentIndex].isNull else { return false }
        currentIndex += 1
        return true
    }

    mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try next().decode(type) }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type
    ) throws -> KeyedDecodingContainer<Nested> {
        try next().container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try next().unkeyedContainer() }

    mutating func superDecoder() throws -> any Decoder { try next() }

    private mutating func next() throws -> ConfigurationDecoder {
        guard !isAtEnd else { throw decoder.failure("there are only \(elements.count) elements") }
        defer { currentIndex += 1 }
        return decoder.child(ConfigurationKey(currentIndex), elements[currentIndex])
    }
}

/// Decodes a single value.
struct ValueContainer: SingleValueDecodingContainer {
    let decoder: ConfigurationDecoder

    var codingPath: [any CodingKey] { decoder.codingPath }

    func decodeNil() -> Bool { decoder.node.isNull }

    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try decoder.decode(type) }
}

extension ConfigurationDecoder {
    /// Returns the error for a required key that is absent.
    fileprivate func missing(_ key: any CodingKey) -> PluginError { failure("'\(key.stringValue)' is missing") }
}

"""###,
"Configuration/ConfigurationDecoder.swift": ###"""
/// Decodes a type of the plugin. The tree provides the keys. The host's getters read the values, so that the host
/// parses durations, sizes and paths, and errors contain the place in the file.
struct ConfigurationDecoder: Decoder {
    let getters: ConfigurationGetters
    let node: ConfigurationTree
    let codingPath: [any CodingKey]
    /// The values of absent keys.
    let defaults: ConfigurationDefaults?
    let keys = AskedKeys()
    let userInfo: [CodingUserInfoKey: Any] = [:]

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard case .mapping = node else { throw mismatch("a mapping") }
        keys.isMapping = true
        return KeyedDecodingContainer(KeyedContainer<Key>(decoder: self))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard case .list(let elements) = node else { throw mismatch("a list") }
        return ListContainer(decoder: self, elements: elements)
    }

    func singleValueContainer() throws -> any SingleValueDecodingContainer {
        ValueContainer(decoder: self)
    }

    /// Returns a decoder for a nested value.
    func child(_ key: any CodingKey, _ node: ConfigurationTree, _ defaults: ConfigurationDefaults? = nil) -> Self {
        ConfigurationDecoder(getters: getters, node: node, codingPath: codingPath + [key], defaults: defaults)
    }

    // MARK: Values

    /// Decodes a whole value and throws for keys that the type does not have.
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        if let value = try leaf(type) { return value }
        do {
            let value = try Value(from: self)
            try refuseUnknownKeys()
            return value
        } catch DecodingError.dataCorrupted(let context) where context.codingPath.count == codingPath.count {
            throw failure(choices(of: type) ?? context.debugDescription)
        }
    }

    /// Reads a value with a getter; returns `nil` for a composed type.
    private func leaf<Value>(_ type: Value.Type) throws -> Value? {
        switch type {
        case is String.Type: try read(ConfigurationGetters.string, else: node.asText, "text") as? Value
        case is Bool.Type: try read(ConfigurationGetters.boolean, else: node.asBoolean, "true or false") as? Value
        case is Double.Type: try number() as? Value
        case is Float.Type: try Float(number()) as? Value
        case is Duration.Type: try read(ConfigurationGetters.duration, else: nil, "a duration") as? Value
        case is ByteSize.Type:
            try ByteSize(exactly: read(ConfigurationGetters.size, else: nil, "a size")).orThrow {
                failure("the size is too large for this plugin")
            } as? Value
        case is ConfiguredPath.Type:
            ConfiguredPath(try read(ConfigurationGetters.path, else: nil, "a path")) as? Value
        case let type as any FixedWidthInteger.Type: try integer(type) as? Value
        default: nil
        }
    }

    private func number() throws -> Double {
        try read(ConfigurationGetters.number, else: node.asNumber.flatMap(Double.init), "a number")
    }

    private func integer<Integer: FixedWidthInteger>(_ type: Integer.Type) throws -> Integer {
        let value = try read(ConfigurationGetters.integer, else: node.asNumber.flatMap { Int64($0) }, "an integer")
        guard let integer = Integer(exactly: value) else {
            throw failure("\(value) is not between \(Integer.min) and \(Integer.max)")
        }
        return integer
    }

    /// Reads a value with the host's getter. Uses `value` if the key cannot be written as a getter's path.
    private func read<Value>(
        _ getter: (ConfigurationGetters) -> (String) throws(PluginError) -> Value?, else value: Value?,
        _ expected: String
    ) throws -> Value {
        guard let value = try ask(getter) ?? (codingPath.getterPath == nil ? value : nil) else {
            throw mismatch(expected)
        }
        return value
    }

    private func ask<Value>(
        _ getter: (ConfigurationGetters) -> (String) throws(PluginError) -> Value?
    ) throws(PluginError) -> Value? {
        guard let path = codingPath.getterPath else { return nil }
        do throws(PluginError) {
            return try getter(getters)(path)
        } catch {
            // The host's message has the place but not the key path.
            throw PluginError(error.code, error.message + codingPath.suffix)
        }
    }

    // MARK: Errors

    func mismatch(_ expected: String) -> PluginError { failure("expected \(expected), found \(node.kind)") }

    /// Creates an error with the place of this value.
    func failure(_ message: String) -> PluginError {
        let place = codingPath.getterPath.flatMap { getters.place($0) }
        return PluginError(.badRequest, (place.map { "\($0): " } ?? "") + message + codingPath.suffix)
    }

    private func refuseUnknownKeys() throws(PluginError) {
        guard keys.isMapping, !keys.isOpen, case .mapping(let entries) = node else { return }
        let unknown = entries.filter { !keys.names.contains($0.key) }
        guard let first = unknown.first?.key else { return }
        // The host knows the place of a top-level key. For nested keys it knows the place of the value.
        if codingPath.isEmpty { try getters.only(keys.names) }
        let hint = nearest(first, among: keys.names).map { "; did you mean '\($0)'?" } ?? ""
        throw child(ConfigurationKey(first), unknown[0].value).failure("unknown key '\(first)'\(hint)")
    }

    /// Converts an error that a `Decodable` type threw and adds its place.
    func describe(_ error: DecodingError) -> PluginError {
        switch error {
        case .keyNotFound(let key, let context):
            return at(context.codingPath).failure("'\(key.stringValue)' is missing")
        case .dataCorrupted(let context), .typeMismatch(_, let context), .valueNotFound(_, let context):
            return at(context.codingPath).failure(context.debugDescription)
        @unknown default:
            return failure("\(error)")
        }
    }

    private func at(_ path: [any CodingKey]) -> Self {
        ConfigurationDecoder(getters: getters, node: .null, codingPath: path, defaults: nil)
    }

    /// Returns a message that lists the valid texts of an enumeration; `nil` for another type.
    private func choices(of type: Any.Type) -> String? {
        guard let type = type as? any (CaseIterable & RawRepresentable).Type else { return nil }
        func names<Choice: CaseIterable & RawRepresentable>(_ type: Choice.Type) -> String {
            Choice.allCases.map { "\($0.rawValue)" }.joined(separator: ", ")
        }
        return "expected one of \(names(type)), found \(node.kind)"
    }
}

/// The keys of a mapping that the type requested.
final class AskedKeys {
    /// The names, in the order of their first request.
    private(set) var names: [String] = []
    /// Whether the value was read as a mapping with keys.
    var isMapping = false
    /// Whether the type takes any key.
    var isOpen = false

    func insert(_ name: String) {
        if !names.contains(name) { names.append(name) }
    }
}

/// A key, or the index of a list element.
struct ConfigurationKey: CodingKey {
    let stringValue: String
    let intValue: Int?

    init(_ name: String) { (stringValue, intValue) = (name, nil) }
    init(_ index: Int) { (stringValue, intValue) = ("\(index)", index) }
    init?(stringValue: String) { self.init(stringValue) }
    init?(intValue: Int) { self.init(intValue) }
}

extension [any CodingKey] {
    /// The path for the host's getters; `nil` if a key is empty or contains a dot.
    var getterPath: String? {
        contains { $0.stringValue.isEmpty || $0.stringValue.contains(".") } ? nil : path
    }

    fileprivate var path: String { map(\.stringValue).joined(separator: ".") }

    /// The key path as a suffix of a message.
    fileprivate var suffix: String { isEmpty ? "" : " (\(path))" }
}

extension ConfigurationTree {
    fileprivate var asText: String? { if case .text(let text) = self { text } else { nil } }
    fileprivate var asBoolean: Bool? { if case .boolean(let value) = self { value } else { nil } }
    fileprivate var asNumber: String? { if case .number(let digits) = self { digits } else { nil } }
}

extension Optional {
    fileprivate func orThrow(_ error: () -> PluginError) throws(PluginError) -> Wrapped {
        guard let self else { throw error() }
        return self
    }
}

"""###,
"Configuration/ConfigurationDefaults.swift": ###"""
/// The default values of a type's properties, by key, taken from an example. They apply to keys that the configuration
/// does not set.
struct ConfigurationDefaults {
    private let values: [String: any Encodable]

    subscript(key: String) -> (any Encodable)? { values[key] }

    init(of example: some Encodable) throws {
        let recorder = Recorder()
        try example.encode(to: recorder)
        values = recorder.values
    }

    /// Creates the defaults for a nested value; `nil` if there are none. A configured dictionary or list replaces its
    /// whole default. Only types with keys of their own are filled in.
    init?(of example: (any Encodable)?, for node: ConfigurationTree) throws {
        guard let example, !(example is any ExpressibleByDictionaryLiteral), case .mapping = node else { return nil }
        try self.init(of: example)
    }

    /// Records the values that are encoded with a key of the topmost mapping.
    private final class Recorder: Encoder {
        var values: [String: any Encodable] = [:]
        let codingPath: [any CodingKey] = []
        let userInfo: [CodingUserInfoKey: Any] = [:]

        func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
            KeyedEncodingContainer(Keyed(recorder: self))
        }

        func unkeyedContainer() -> any UnkeyedEncodingContainer { Ignored() }
        func singleValueContainer() -> any SingleValueEncodingContainer { Ignored() }
    }

    private struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
        let recorder: Recorder
        let codingPath: [any CodingKey] = []

        func encodeNil(forKey key: Key) {}
        func encode<Value: Encodable>(_ value: Value, forKey key: Key) { recorder.values[key.stringValue] = value }

        func nestedContainer<Nested: CodingKey>(
            keyedBy type: Nested.Type, forKey key: Key
        ) -> KeyedEncodingContainer<Nested> {
            KeyedEncodingContainer(Keyed<Nested>(recorder: Recorder()))
        }

        func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer { Ignored() }
        func superEncoder() -> any Encoder { recorder }
        func superEncoder(forKey key: Key) -> any Encoder { Recorder() }
    }

    /// Ignores lists and single values. They have no keys that could be left out.
    private struct Ignored: UnkeyedEncodingContainer, SingleValueEncodingContainer {
        let codingPath: [any CodingKey] = []
        let count = 0

        func encodeNil() {}
        func encode<Value: Encodable>(_ value: Value) {}

        func nestedContainer<Nested: CodingKey>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
            KeyedEncodingContainer(Keyed<Nested>(recorder: Recorder()))
        }

        func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { Ignored() }
        func superEncoder() -> any Encoder { Recorder() }
    }
}

"""###,
"Configuration/ConfigurationGetters.swift": ###"""
import CChanservPlugin

/// Swift wrappers of the getters in the host's table. They work until the plugin's `create` returns.
struct ConfigurationGetters {
    private let host: UnsafePointer<chanserv_host>
    private let config: OpaquePointer?

    init(host: UnsafePointer<chanserv_host>, config: OpaquePointer?) {
        self.host = host
        self.config = config
    }

    func only(_ keys: [String]) throws(PluginError) {
        let copies = keys.map { key in
            let text = UnsafeMutableBufferPointer<CChar>.allocate(capacity: key.utf8.count + 1)
            _ = text.initialize(from: key.utf8.lazy.map { CChar(bitPattern: $0) } + [0])
            return text
        }
        defer { copies.forEach { $0.deallocate() } }
        var known: [UnsafePointer<CChar>?] = copies.map { UnsafePointer($0.baseAddress) }
        known.append(nil)  // gives the array an address even without keys
        _ = try ask { error in host.pointee.config_only(host, config, known, keys.count, &error) }
    }

    func string(_ path: String) throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { error in host.pointee.config_string(host, config, path, &value, &size, &error) }
        return found ? text(value, size) : nil
    }

    func path(_ path: String) throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { error in host.pointee.config_path(host, config, path, &value, &size, &error) }
        return found ? text(value, size) : nil
    }

    func integer(_ path: String) throws(PluginError) -> Int64? {
        var value: Int64 = 0
        let found = try ask { error in host.pointee.config_integer(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func number(_ path: String) throws(PluginError) -> Double? {
        var value = 0.0
        let found = try ask { error in host.pointee.config_number(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func boolean(_ path: String) throws(PluginError) -> Bool? {
        var value: Int32 = 0
        let found = try ask { error in host.pointee.config_boolean(host, config, path, &value, &error) }
        return found ? value != 0 : nil
    }

    func duration(_ path: String) throws(PluginError) -> Duration? {
        var value: Int64 = 0
        let found = try ask { error in host.pointee.config_duration(host, config, path, &value, &error) }
        return found ? .nanoseconds(value) : nil
    }

    func size(_ path: String) throws(PluginError) -> UInt64? {
        var value: UInt64 = 0
        let found = try ask { error in host.pointee.config_size(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func count(_ path: String) throws(PluginError) -> Int? {
        var value = 0
        let found = try ask { error in host.pointee.config_count(host, config, path, &value, &error) }
        return found ? value : nil
    }

    func json() throws(PluginError) -> String? {
        var value: UnsafePointer<CChar>?
        var size = 0
        let found = try ask { _ in host.pointee.config_json(host, config, &value, &size) }
        return found ? text(value, size) : nil
    }

    /// Returns the place of a value in the file, e.g. `chanserv.yaml:12:5`; `nil` if the host does not state it.
    ///
    /// No getter returns a place, but the error of a getter for another type contains it. A value cannot be both a
    /// boolean and a list, so one of the two getters fails.
    func place(_ path: String) -> String? {
        place { () throws(PluginError) in _ = try boolean(path) }
            ?? place { () throws(PluginError) in _ = try count(path) }
    }

    private func place(_ question: () throws(PluginError) -> Void) -> String? {
        do {
            try question()
            return nil
        } catch {
            // The format is "file:line:column: message". File names may contain colons.
            let message = Array(error.message.utf8)
            var start = 0
            while let colon = message[start...].firstIndex(of: UInt8(ascii: ":")) {
                let numbers = message[(colon + 1)...].split(
                    separator: UInt8(ascii: ":"), maxSplits: 2, omittingEmptySubsequences: false)
                if numbers.count == 3, let line = numbers[0].asNumber, let column = numbers[1].asNumber {
                    return "\(String(decoding: message[..<colon], as: UTF8.self)):\(line):\(column)"
                }
                start = colon + 1
            }
            return nil
        }
    }

    /// Calls a getter and returns whether the key exists.
    private func ask(_ getter: (inout chanserv_error) -> chanserv_status) throws(PluginError) -> Bool {
        let buffer = UnsafeMutableBufferPointer<CChar>.allocate(capacity: 1024)
        buffer.initialize(repeating: 0)
        defer { buffer.deallocate() }
        var error = chanserv_error(message: buffer.baseAddress, capacity: buffer.count)
        let status = getter(&error)
        if status >= 0 { return true }
        if status == PluginError.Code.notFound.status { return false }
        let end = buffer.firstIndex(of: 0) ?? buffer.endIndex
        let message = String(decoding: buffer[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        throw PluginError(PluginError.Code(status: status), message.isEmpty ? "bad configuration" : message)
    }

    private func text(_ value: UnsafePointer<CChar>?, _ size: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: value, count: size), as: UTF8.self)
    }
}

extension ArraySlice<UInt8> {
    /// The number with these digits.
    fileprivate var asNumber: Int? {
        allSatisfy { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
            ? Int(String(decoding: self, as: UTF8.self)) : nil
    }
}

"""###,
"Configuration/ConfigurationTree.swift": ###"""
/// The structure of the configuration, parsed from the host's JSON: its keys, the lengths of its lists, and its values.
/// The values are used only for keys that cannot be written as a getter's path.
enum ConfigurationTree {
    case null
    case boolean(Bool)
    /// The number as it is written.
    case number(String)
    case text(String)
    case list([ConfigurationTree])
    case mapping([(key: String, value: ConfigurationTree)])

    /// Maximum nesting. The host accepts no configuration this deep.
    private static let depthMax = 256

    /// - Parameter json: RFC 8259.
    init(json: String) throws(PluginError) {
        var parser = Parser(bytes: Array(json.utf8))
        self = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.rest.isEmpty else { throw parser.failure("unexpected text after the end") }
    }

    /// The value of a key; `nil` if the key is absent or its value is null.
    subscript(key: String) -> ConfigurationTree? {
        guard case .mapping(let entries) = self, let value = entries.first(where: { $0.key == key })?.value,
            !value.isNull
        else { return nil }
        return value
    }

    var isNull: Bool {
        if case .null = self { true } else { false }
    }

    /// A description of the value for messages.
    var kind: String {
        switch self {
        case .null: "nothing"
        case .boolean(let value): "\(value)"
        case .number(let digits): "the number \(digits)"
        case .text(let text): "the text '\(text)'"
        case .list: "a list"
        case .mapping: "a mapping"
        }
    }

    private struct Parser {
        let bytes: [UInt8]
        var at = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        var rest: ArraySlice<UInt8> { bytes[at...] }

        func failure(_ what: String) -> PluginError {
            PluginError(.internal, "the host's JSON of the configuration is wrong at byte \(at): \(what)")
        }

        mutating func skipSpace() {
            while let byte = rest.first, [0x20, 0x09, 0x0A, 0x0D].contains(byte) { at += 1 }
        }

        /// Consumes `character` if it is next, and returns whether it was.
        mutating func take(_ character: Unicode.Scalar) -> Bool {
            skipSpace()
            guard rest.first == UInt8(ascii: character) else { return false }
            at += 1
            return true
        }

        mutating func value(depth: Int) throws(PluginError) -> ConfigurationTree {
            guard depth < depthMax else { throw failure("it is nested too deeply") }
            if take("{") {
                var entries: [(key: String, value: ConfigurationTree)] = []
                if take("}") { return .mapping(entries) }
                repeat {
                    guard take("\"") else { throw failure("expected a key") }
                    let key = try string()
                    guard take(":") else { throw failure("expected ':'") }
                    entries.append((key, try value(depth: depth + 1)))
                } while take(",")
                guard take("}") else { throw failure("expected '}'") }
                return .mapping(entries)
            }
            if take("[") {
                var elements: [ConfigurationTree] = []
                if take("]") { return .list(elements) }
                repeat { elements.append(try value(depth: depth + 1)) } while take(",")
                guard take("]") else { throw failure("expected ']'") }
                return .list(elements)
            }
            if take("\"") { return .text(try string()) }
            let word = rest.prefix { !Array(",]} \t\r\n".utf8).contains($0) }
            at = word.endIndex
            switch String(decoding: word, as: UTF8.self) {
            case "null": return .null
            case "true": return .boolean(true)
            case "false": return .boolean(false)
            case let word where Double(word) != nil: return .number(word)
            case let word: throw failure("'\(word)' is not a value")
            }
        }

        /// Parses a string after its opening quotation mark.
        private mutating func string() throws(PluginError) -> String {
            var text: [UInt8] = []
            while let byte = rest.first {
                at += 1
                switch byte {
                case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
                case UInt8(ascii: "\\"): try text.append(contentsOf: String(escape()).utf8)
                default: text.append(byte)
                }
            }
            throw failure("unterminated string")
        }

        /// Parses an escape sequence after its backslash.
        private mutating func escape() throws(PluginError) -> Unicode.Scalar {
            guard let byte = rest.first else { throw failure("unterminated string") }
            at += 1
            switch Unicode.Scalar(byte) {
            case "b": return "\u{8}"
            case "f": return "\u{C}"
            case "n": return "\n"
            case "r": return "\r"
            case "t": return "\t"
            case "u":
                var code = try unit()
                if (0xD800..<0xDC00).contains(code), rest.starts(with: Array("\\u".utf8)) {
                    at += 2
                    let low = try unit()
                    guard (0xDC00..<0xE000).contains(low) else { throw failure("incomplete surrogate pair") }
                    code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
                }
                guard let scalar = Unicode.Scalar(code) else { throw failure("incomplete surrogate pair") }
                return scalar
            case let other: return other  // a quotation mark, a backslash, a slash
            }
        }

        private mutating func unit() throws(PluginError) -> UInt32 {
            let digits = rest.prefix(4)
            guard digits.count == 4, let unit = UInt32(String(decoding: digits, as: UTF8.self), radix: 16) else {
                throw failure("expected four hexadecimal digits after \\u")
            }
            at += 4
            return unit
        }
    }
}

"""###,
"Configuration/ConfigurationValues.swift": ###"""
/// A number of bytes, configured as `512`, `64KiB`, `100MiB`, `1GiB` or `64kB`.
public struct ByteSize: Sendable, Hashable, Comparable, Codable {
    /// The number of bytes.
    public var bytes: Int

    public init(bytes: Int) { self.bytes = bytes }

    public static func bytes(_ count: Int) -> ByteSize { ByteSize(bytes: count) }
    public static func kibibytes(_ count: Int) -> ByteSize { ByteSize(bytes: count << 10) }
    public static func mebibytes(_ count: Int) -> ByteSize { ByteSize(bytes: count << 20) }

    init?(exactly bytes: UInt64) {
        guard let bytes = Int(exactly: bytes) else { return nil }
        self.bytes = bytes
    }

    public static func < (left: ByteSize, right: ByteSize) -> Bool { left.bytes < right.bytes }
}

/// A file system path, configured as text. It is always absolute: a relative path is resolved against the folder of the
/// configuration file.
public struct ConfiguredPath: Sendable, Hashable, Codable {
    public var string: String

    public init(_ string: String) { self.string = string }
}

"""###,
"Configuration/NearestKey.swift": ###"""
/// Returns the key of `known` that is most similar to a misspelt word; `nil` if more than a third of its letters, and
/// more than one, differ. The host uses the same rule for its own keys.
func nearest(_ word: String, among known: [String]) -> String? {
    let letters = Array(word.lowercased().unicodeScalars)
    var best: (key: String, distance: Int)?
    for key in known {
        let other = Array(key.lowercased().unicodeScalars)
        // Longer words are not keys. The run time is the product of the lengths.
        guard letters.count <= 64, other.count <= 64 else { continue }
        let distance = distance(letters, other)
        guard distance <= max(1, max(letters.count, other.count) / 3), distance < max(letters.count, other.count),
            distance < best?.distance ?? .max
        else { continue }
        best = (key, distance)
    }
    return best?.key
}

/// Returns the number of insertions, deletions, replacements and exchanges of neighbouring letters between the two
/// words.
private func distance(_ left: [Unicode.Scalar], _ right: [Unicode.Scalar]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...right.count)
    for row in left.indices {
        var current = [row + 1]
        for column in right.indices {
            let replaced = last[column] + (left[row] == right[column] ? 0 : 1)
            var cost = min(replaced, last[column + 1] + 1, current[column] + 1)
            if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
                cost = min(cost, beforeLast[column - 1] + 1)
            }
            current.append(cost)
        }
        (beforeLast, last) = (last, current)
    }
    return last[right.count]
}

"""###,
"Descriptor.swift": ###"""
public import CChanservPlugin

extension Plugin {
    /// The ABI table of this type, which the entry point of the library returns.
    ///
    /// C functions have no type parameters, so the type is stored in a global variable. A library can therefore export
    /// only one plugin type. For a second type this is `nil`, and the host refuses to load the library.
    public static var descriptor: UnsafePointer<chanserv_plugin>? {
        exported.withLock { exported in
            if let exported {
                return exported.type == Self.self ? UnsafePointer(bitPattern: exported.table) : nil
            }
            let table = UnsafeMutablePointer<chanserv_plugin>.allocate(capacity: 1)
            table.initialize(to: makeTable(name: constant(name), version: constant(version), isInline: isInline))
            exported = (Self.self, UInt(bitPattern: table))
            return UnsafePointer(table)
        }
    }
}

/// The exported type and the address of its table, which is never freed.
private let exported = Locked<(type: any Plugin.Type, table: UInt)?>(nil)

/// Returns a C copy of a text that is never freed.
private func constant(_ text: String) -> UnsafePointer<CChar> {
    let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: text.utf8.count + 1)
    _ = copy.initialize(from: text.utf8.lazy.map { CChar(bitPattern: $0) } + [0])
    return UnsafePointer(copy.baseAddress!)
}

private func makeTable(
    name: UnsafePointer<CChar>, version: UnsafePointer<CChar>, isInline: Bool
) -> chanserv_plugin {
    chanserv_plugin(
        // The value of the macro CHANSERV_PLUGIN_MAGIC, which Swift cannot import: "CHSP".
        magic: 0x5053_4843,
        abi_major: UInt16(CHANSERV_ABI_MAJOR),
        abi_minor: UInt16(CHANSERV_ABI_MINOR),
        struct_size: UInt32(MemoryLayout<chanserv_plugin>.size),
        flags: isInline ? UInt32(CHANSERV_PLUGIN_INLINE) : 0,
        name: name,
        version: version,
        create: { host, config, instance, buffer in
            do {
                guard let host, let instance, let type = exported.withLock({ $0?.type }) else {
                    throw PluginError(.internal, "create was called without a host")
                }
                instance.pointee = handOut(try Instance(type, host: host, config: config))
                return chanserv_status(CHANSERV_READY)
            } catch {
                return PluginError(describing: error).report(to: buffer)
            }
        },
        destroy: { instance in
            takeBack(instance, as: Instance.self).plugin.stop()
        },
        open: { instance, request, call, error in
            guard let request, let call else { return chanserv_status(CHANSERV_ERROR_INTERNAL) }
            call.pointee = handOut(Call(borrow(instance, as: Instance.self), Request(request)))
            return chanserv_status(CHANSERV_READY)
        },
        poll_sources: { call, sink, error in
            borrow(call, as: Call.self).poll(sink!, error)
        },
        cancel_call: { call in
            borrow(call, as: Call.self).cancel()
        },
        close_call: { call in
            takeBack(call, as: Call.self).cancel()
        },
        poll_frames: { source, sink, error in
            borrow(source, as: Stream.self).poll(sink!, error)
        },
        cancel_source: { source in
            borrow(source, as: Stream.self).cancel()
        },
        close_source: { source in
            takeBack(source, as: Stream.self).cancel()
        }
    )
}

// MARK: Objects as opaque pointers of the host

func handOut(_ object: AnyObject) -> OpaquePointer {
    OpaquePointer(Unmanaged.passRetained(object).toOpaque())
}

private func borrow<Object: AnyObject>(_ pointer: OpaquePointer?, as type: Object.Type) -> Object {
    Unmanaged<Object>.fromOpaque(UnsafeRawPointer(pointer!)).takeUnretainedValue()
}

@discardableResult
func takeBack<Object: AnyObject>(_ pointer: OpaquePointer?, as type: Object.Type) -> Object {
    Unmanaged<Object>.fromOpaque(UnsafeRawPointer(pointer!)).takeRetainedValue()
}

"""###,
"FrameBuffer.swift": ###"""
/// The memory of a frame that can be lent to the host any number of times without a copy: see ``FrameWriter/lend(_:)``.
///
/// It never changes after its creation. It is freed when it is no longer referenced, by the plugin or the host.
public final class FrameBuffer: Sendable {
    /// The frame.
    ///
    /// Safe to share: only the initialiser writes to it, before any other reference exists.
    nonisolated(unsafe) let bytes: UnsafeRawBufferPointer

    /// Creates a frame in place.
    ///
    /// - Parameters:
    ///   - capacity: maximum size of the frame in bytes.
    ///   - fill: writes the frame. The bytes that it has written when it returns are the frame.
    public init(capacity: Int, _ fill: (_ room: inout OutputRawSpan) throws -> Void) rethrows {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, capacity), alignment: 16)
        do {
            var span = OutputRawSpan(buffer: memory, initializedCount: 0)
            try fill(&span)
            bytes = UnsafeRawBufferPointer(rebasing: memory[..<span.finalize(for: memory)])
        } catch {
            memory.deallocate()
            throw error
        }
    }

    /// Creates a frame with a copy of `bytes`.
    public init(_ bytes: some Collection<UInt8>) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 16)
        memory.copyBytes(from: bytes)
        self.bytes = UnsafeRawBufferPointer(rebasing: memory[..<bytes.count])
    }

    deinit { bytes.deallocate() }

    /// The size of the frame in bytes.
    public var count: Int { bytes.count }
}

"""###,
"FrameWriter.swift": ###"""
/// Writes the frames of a source.
///
/// Each function waits while the client has not read enough earlier frames. The plugin buffers at most 256 KiB or 1,024
/// frames, or one larger frame. Each function throws `CancellationError` after the source or the task was cancelled,
/// and ``PluginError`` if a frame has more than 100 MiB.
public struct FrameWriter: Sendable {
    let pipe: Pipe<FrameQueue>

    /// Writes bytes as a frame. A large array is retained until the host takes it, not copied.
    public func write(_ frame: [UInt8]) async throws {
        guard frame.count >= FrameQueue.largeSize else { return try await write(frame.span.bytes) }
        try checkSize(frame.count, "frame")
        try await pipe.write(size: frame.count) { $0.append(sharing: frame) }
    }

    /// Writes a frame that the host sends directly from the plugin's memory. The host copies a frame of 8 KiB or more only
    /// in the cases that `chanserv_plugin.h` lists at `lend`. The same frame may be lent any number of times, to any
    /// sources.
    public func lend(_ frame: FrameBuffer) async throws {
        try await lend(frame.bytes, owner: frame)
    }

    /// Writes a frame that the host sends from memory that the plugin manages.
    ///
    /// - Parameters:
    ///   - bytes: the frame. It must not move or change while `owner` is retained. It must not be a file mapping: if
    ///     the file is truncated, reading the mapping crashes the host.
    ///   - owner: the owner of the bytes. It is retained until the host needs the bytes no more, perhaps long after the
    ///     end of the source, and released at once if the host copies them. Its `deinit` runs on any thread and must
    ///     return as quickly as a poll.
    public func lend(_ bytes: UnsafeRawBufferPointer, owner: some AnyObject & Sendable) async throws {
        try checkSize(bytes.count, "frame")
        try await pipe.write(size: bytes.count) { $0.append(lending: bytes, of: owner) }
    }

    /// Writes bytes as a frame without creating an array.
    public func write(_ frame: RawSpan) async throws {
        try checkSize(frame.byteCount, "frame")
        while try !frame.withUnsafeBytes({ bytes in
            try pipe.tryToWrite(size: bytes.count) { $0.append(bytes) }
        }) {
            try await pipe.waitForRoom()
        }
    }

    /// Writes bytes as a frame.
    public func write(_ frame: some Collection<UInt8> & Sendable) async throws {
        let isWritten: Bool? = try frame.withContiguousStorageIfAvailable { bytes in
            try checkSize(bytes.count, "frame")
            return try pipe.tryToWrite(size: bytes.count) { $0.append(UnsafeRawBufferPointer(bytes)) }
        }
        if isWritten != true { try await write([UInt8](frame)) }
    }

    /// Writes text as a frame.
    public func write(_ frame: String) async throws {
        try await write(frame.utf8)
    }

    /// Writes a frame that `fill` creates in the host's outgoing buffer, without a copy. The host calls `fill` when the
    /// frame is next, with room for `capacity` bytes. The bytes that it has written when it returns are the frame.
    ///
    /// ```swift
    /// try await frames.write(upTo: 65_536) { room in
    ///     for _ in 0..<8_192 { room.append(0 as UInt64, as: UInt64.self) }
    /// }
    /// ```
    ///
    /// `fill` runs later, on a thread of the host that serves other requests too, so it must not block. An error that
    /// it throws ends the source. It does not run if the client does not read that far.
    ///
    /// - Parameter capacity: maximum size of the frame, at least 1. All of it counts towards the bytes that the plugin
    ///   buffers.
    public func write(
        upTo capacity: Int, _ fill: @escaping @Sendable (_ room: inout OutputRawSpan) throws -> Void
    ) async throws {
        try checkSize(capacity, "frame")
        try await pipe.write(size: capacity) { $0.append(capacity: max(1, capacity), fill) }
    }
}

"""###,
"Host.swift": ###"""
import CChanservPlugin

/// The functions of the host's table that may be used at any time and from any thread.
struct Host: Sendable {
    // Safe to share: the ABI guarantees that the table stays readable until the process ends, and that `wake` and `log`
    // may be called from any thread.
    nonisolated(unsafe) private let table: UnsafePointer<chanserv_host>

    init(_ table: UnsafePointer<chanserv_host>) {
        self.table = table
    }

    func wake(_ handle: UInt64) {
        table.pointee.wake(table, handle)
    }

    func log(_ level: Int, _ message: String) {
        var message = message
        message.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { characters in
                guard let start = characters.baseAddress else { return }  // an empty message
                table.pointee.log(table, Int32(level), start, characters.count)
            }
        }
    }
}

/// Writes messages to the host's log, with the plugin's name. Never blocks.
public struct Log: Sendable {
    let host: Host

    /// Logs details for debugging the plugin.
    public func debug(_ message: String) {
        host.log(CHANSERV_LOG_DEBUG, message)
    }

    /// Logs information that may be of interest to an operator.
    public func info(_ message: String) {
        host.log(CHANSERV_LOG_INFO, message)
    }

    /// Logs a condition that an operator should know.
    public func warning(_ message: String) {
        host.log(CHANSERV_LOG_WARNING, message)
    }

    /// Logs a failure that needs action by an operator.
    public func error(_ message: String) {
        host.log(CHANSERV_LOG_ERROR, message)
    }
}

"""###,
"Locked.swift": ###"""
#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// A value protected by a lock.
///
/// The SDK depends on the ABI's header only. It uses a pthread mutex because the thread sanitizer reports false races
/// for the standard library's `Mutex` on Linux.
final class Locked<Value>: @unchecked Sendable {
    // Sendable, because `value` is accessed only between lock and unlock, and `sending` prevents that anything that
    // goes in or out is shared with other code.
    private var value: Value
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init(_ value: sending Value) {
        self.value = value
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        let code = pthread_mutex_init(mutex, nil)
        precondition(code == 0, "pthread_mutex_init failed with \(code)")
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }
}

"""###,
"Objects.swift": ###"""
import CChanservPlugin

/// A plugin instance and its host.
final class Instance: Sendable {
    let plugin: any Plugin
    let host: Host

    init(_ type: any Plugin.Type, host: UnsafePointer<chanserv_host>, config: OpaquePointer?) throws {
        self.host = Host(host)
        plugin = try type.init(configuration: Configuration(host: host, config: config), log: Log(host: self.host))
    }
}

/// A request that is being served.
final class Call: @unchecked Sendable {
    // Sendable: only `queue` is not, and only polls use it, which the host serialises.
    private var queue = SourceQueue()
    private let pipe: Pipe<SourceQueue>
    private let instance: Instance
    private let request: Request

    init(_ instance: Instance, _ request: Request) {
        self.instance = instance
        self.request = request
        pipe = Pipe(host: instance.host)
    }

    func poll(
        _ sink: UnsafeMutablePointer<chanserv_source_sink>, _ error: UnsafeMutablePointer<chanserv_error>?
    ) -> chanserv_status {
        while true {
            var refusal = chanserv_status(CHANSERV_READY)
            queue.drain { source in
                refusal = offer(source, to: sink)
                return refusal == CHANSERV_READY
            }
            if refusal == CHANSERV_FULL { return chanserv_status(CHANSERV_READY) }
            if refusal != CHANSERV_READY {
                return PluginError(.internal, "a source was refused (\(refusal))").report(to: error)
            }
            let action = pipe.take(into: &queue, wake: sink.pointee.wake) {
                [plugin = instance.plugin, request, writer = SourceWriter(pipe: pipe)] in
                try await plugin.serve(request, to: writer)
            }
            switch action {
            case .drain: continue
            case .wait: return chanserv_status(CHANSERV_PENDING)
            case .end: return chanserv_status(CHANSERV_END)
            case .fail(let failure): return failure.report(to: error)
            }
        }
    }

    private func offer(_ source: Source, to sink: UnsafeMutablePointer<chanserv_source_sink>) -> chanserv_status {
        let stream = handOut(Stream(source, instance.host))
        let status = source.header.withUnsafeBytes { header in
            // The header is empty, but its pointer must not be NULL.
            sink.pointee.add(sink, header.baseAddress ?? UnsafeRawPointer(sink), header.count, stream)
        }
        if status != CHANSERV_READY { takeBack(stream, as: Stream.self) }
        return status
    }

    func cancel() {
        pipe.cancel()
    }
}

/// A source that is being read.
final class Stream: @unchecked Sendable {
    // Sendable: only `queue` is not, and only polls use it, which the host serialises.
    private var queue = FrameQueue()
    private let pipe: Pipe<FrameQueue>
    private let source: Source

    init(_ source: Source, _ host: Host) {
        self.source = source
        pipe = Pipe(host: host)
    }

    func poll(
        _ sink: UnsafeMutablePointer<chanserv_frame_sink>, _ error: UnsafeMutablePointer<chanserv_error>?
    ) -> chanserv_status {
        while true {
            do {
                switch try drain(into: sink) {
                case chanserv_status(CHANSERV_READY): break
                case chanserv_status(CHANSERV_FULL): return chanserv_status(CHANSERV_READY)
                case let refusal: throw PluginError(.internal, "a frame was refused (\(refusal))")
                }
            } catch let failure {
                pipe.cancel()
                return PluginError(describing: failure).report(to: error)
            }
            let action = pipe.take(into: &queue, wake: sink.pointee.wake) {
                [produce = source.produce, writer = FrameWriter(pipe: pipe)] in
                try await produce(writer)
            }
            switch action {
            case .drain: continue
            case .wait: return chanserv_status(CHANSERV_PENDING)
            case .end: return chanserv_status(CHANSERV_END)
            case .fail(let failure): return failure.report(to: error)
            }
        }
    }

    /// The minimum `struct_size` of a frame sink with `lend`.
    private static let sizeWithLend =
        UInt32(MemoryLayout<chanserv_frame_sink>.offset(of: \.lend)! + MemoryLayout<UnsafeRawPointer>.size)

    /// Lends a frame. A host with ABI version 1.0 copies it.
    private func lend(
        _ frame: UnsafeRawBufferPointer, of owner: AnyObject, to sink: UnsafeMutablePointer<chanserv_frame_sink>
    ) -> chanserv_status {
        let start = frame.baseAddress ?? UnsafeRawPointer(sink)
        guard sink.pointee.struct_size >= Self.sizeWithLend, let lend = sink.pointee.lend else {
            return sink.pointee.append(sink, start, frame.count)
        }
        let context = Unmanaged.passRetained(owner)
        let status = lend(
            sink, start, frame.count, { Unmanaged<AnyObject>.fromOpaque($0!).release() }, context.toOpaque())
        if status != CHANSERV_READY { context.release() }
        return status
    }

    /// Passes frames to the host and returns the status of the last one.
    private func drain(into sink: UnsafeMutablePointer<chanserv_frame_sink>) throws -> chanserv_status {
        var status = chanserv_status(CHANSERV_READY)
        try queue.drain(
            take: { frame in
                status = sink.pointee.append(sink, frame.baseAddress ?? UnsafeRawPointer(sink), frame.count)
                return status == CHANSERV_READY
            },
            lend: { frame, owner in
                status = lend(frame, of: owner, to: sink)
                return status == CHANSERV_READY
            },
            fill: { capacity, fill in
                var size = 0
                guard let start = sink.pointee.reserve(sink, capacity, &size) else {
                    status = chanserv_status(CHANSERV_FULL)
                    return false
                }
                let room = UnsafeMutableRawBufferPointer(start: start, count: capacity)
                var span = OutputRawSpan(buffer: room, initializedCount: 0)
                try fill(&span)
                status = sink.pointee.commit(sink, span.finalize(for: room))
                return status == CHANSERV_READY
            })
        return status
    }

    func cancel() {
        pipe.cancel()
    }
}

"""###,
"Pipe.swift": ###"""
/// Connects a task of the plugin, which may wait, to the polls of the host, which may not.
///
/// The task writes into one queue while the host drains another one. A poll that finds its own queue empty swaps the
/// two. So no lock is held while bytes are copied to the host, and at most two full queues are in memory.
final class Pipe<Queue: PipeQueue>: Sendable {
    private struct State {
        var machine = PipeState<Queue>()
        var writers: [UInt64: CheckedContinuation<Void, any Error>] = [:]
        var nextWriter: UInt64 = 0
        var task: Task<Void, Never>?
    }

    private let state = Locked(State())
    private let host: Host

    init(host: Host) {
        self.host = host
    }

    // MARK: The task

    /// Adds an item if there is room now.
    ///
    /// - Parameter append: adds the item to the queue; called with the lock held.
    /// - Returns: `false` if there is no room. The caller waits for room and tries again.
    func tryToWrite(size: Int, _ append: (inout Queue) -> Void) throws -> Bool {
        switch state.withLock({ $0.machine.write(size: size, append) }) {
        case .accepted:
            return true
        case .acceptedAndWake(let handle):
            host.wake(handle)
            return true
        case .cancelled:
            throw CancellationError()
        case .full:
            return false
        }
    }

    func write(size: Int, _ append: (inout Queue) -> Void) async throws {
        while try !tryToWrite(size: size, append) { try await waitForRoom() }
    }

    func waitForRoom() async throws {
        let writer = state.withLock { state in
            state.nextWriter += 1
            return state.nextWriter
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                // If the cancellation handler has already run, nothing would resume a stored continuation.
                let waits = state.withLock { state in
                    guard state.machine.isFull, !Task.isCancelled else { return false }
                    state.writers[writer] = continuation
                    return true
                }
                if !waits {
                    continuation.resume(with: Task.isCancelled ? .failure(CancellationError()) : .success(()))
                }
            }
        } onCancel: {
            state.withLock { $0.writers.removeValue(forKey: writer) }?.resume(throwing: CancellationError())
        }
    }

    // MARK: The host

    /// Returns the next step of a poll. If items are available, `queue` has at least one. The first call starts the
    /// task.
    ///
    /// - Parameters:
    ///   - queue: the host's queue, which must be empty.
    ///   - handle: the wake handle to use when items are available after ``PipeState/TakeAction/wait``.
    ///   - body: the body of the task.
    func take(
        into queue: inout Queue, wake handle: UInt64, body: @escaping @Sendable () async throws -> Void
    ) -> PipeState<Queue>.TakeAction {
        let (action, writers) = state.withLock { state in
            if state.machine.start() {
                state.task = Task {
                    do {
                        try await body()
                        self.finish(.success(()))
                    } catch {
                        self.finish(.failure(PluginError(describing: error)))
                    }
                }
            }
            let action = state.machine.take(into: &queue, wake: handle)
            var writers: [CheckedContinuation<Void, any Error>] = []
            if case .drain = action, !state.writers.isEmpty {
                writers = Array(state.writers.values)
                state.writers = [:]
            }
            return (action, writers)
        }
        writers.forEach { $0.resume() }
        return action
    }

    private func finish(_ result: Result<Void, PluginError>) {
        let handle = state.withLock { state in
            state.task = nil
            return state.machine.finish(result)
        }
        if let handle { host.wake(handle) }
    }

    /// Cancels the task and its waits. Further calls do nothing.
    func cancel() {
        let (handle, task, writers) = state.withLock { state in
            let handle = state.machine.cancel()
            let writers = Array(state.writers.values)
            state.writers = [:]
            let task = state.task
            state.task = nil
            return (handle, task, writers)
        }
        task?.cancel()
        writers.forEach { $0.resume(throwing: CancellationError()) }
        if let handle { host.wake(handle) }
    }
}

"""###,
"PipeState.swift": ###"""
/// State machine between a task of the plugin and the polls of the host. It has no lock, task or host.
struct PipeState<Queue: PipeQueue> {
    private var queue = Queue()
    private var started = false
    private var cancelled = false
    private var result: Result<Void, PluginError>?
    // The wake handle while the host waits after a poll that found nothing. It must be woken once.
    private var sleeper: UInt64?

    /// The result of a write.
    enum WriteAction {
        case accepted
        /// Accepted, and the host must be woken.
        case acceptedAndWake(UInt64)
        /// Not accepted: wait until there is room.
        case full
        /// Not accepted: the pipe was cancelled.
        case cancelled
    }

    /// Writes an item.
    ///
    /// - Parameters:
    ///   - size: the size of the item.
    ///   - append: adds the item to the queue. Called only if the item is accepted.
    mutating func write(size: Int, _ append: (inout Queue) -> Void) -> WriteAction {
        if cancelled { return .cancelled }
        guard queue.isEmpty || queue.hasRoom(for: size) else {
            isFull = true
            return .full
        }
        append(&queue)
        guard let handle = sleeper.take() else { return .accepted }
        return .acceptedAndWake(handle)
    }

    /// Whether a write was rejected since the queue was last taken. Only then a writer may wait for room.
    private(set) var isFull = false

    /// Returns whether the task must be started now: once, unless it was cancelled before.
    mutating func start() -> Bool {
        guard !started, !cancelled else { return false }
        started = true
        return true
    }

    /// The next step of a poll.
    enum TakeAction {
        /// Pass on the items of the poll's queue. There is room for waiting writers.
        case drain
        /// Return that there is nothing now.
        case wait
        /// Return that there will be no more items.
        case end
        /// Return the error.
        case fail(PluginError)
    }

    /// Takes the queued items.
    ///
    /// - Parameters:
    ///   - other: the poll's queue, which must be empty. It is swapped with the filled queue.
    ///   - handle: the wake handle to use when items are available after ``TakeAction/wait``.
    mutating func take(into other: inout Queue, wake handle: UInt64) -> TakeAction {
        if cancelled { return .fail(PluginError(describing: CancellationError())) }
        if !queue.isEmpty {
            swap(&queue, &other)
            isFull = false
            return .drain
        }
        switch result {
        case .success: return .end
        case .failure(let error): return .fail(error)
        case nil:
            sleeper = handle
            return .wait
        }
    }

    /// Records that the task has ended. Returns the handle that must be woken.
    mutating func finish(_ result: Result<Void, PluginError>) -> UInt64? {
        self.result = result
        return sleeper.take()
    }

    /// Cancels the pipe. Returns the handle that must be woken.
    mutating func cancel() -> UInt64? {
        cancelled = true
        isFull = false
        queue = Queue()
        return sleeper.take()
    }
}

"""###,
"Plugin.swift": ###"""
/// A plugin, written in Swift.
///
/// Conform a type, and export it:
///
/// ```swift
/// import CChanservPlugin
/// import ChanservPlugin
///
/// struct Hello: Plugin {
///     static let name = "hello"
///     static let version = "1.0.0"
///
///     struct Options: Codable {
///         var greeting = "Hello"
///     }
///     let options: Options
///
///     init(configuration: borrowing Configuration, log: Log) throws {
///         options = try configuration.decode(over: Options())
///     }
///
///     func serve(_ request: Request, to sources: SourceWriter) async throws {
///         try await sources.add(Source(header: "greeting") { frames in
///             try await frames.write("\(options.greeting), \(request.text)!")
///         })
///     }
/// }
///
/// @c @implementation
/// public func chanserv_plugin_v1() -> UnsafePointer<chanserv_plugin>? { Hello.descriptor }
/// ```
///
/// The functions of a plugin run as tasks on Swift's pool, so they must not block. A task that is suspended uses no
/// thread. When the client is gone, or the host destroys the instance, the task is cancelled: the functions of the SDK
/// throw `CancellationError`, and so does `Task.sleep`. A task that ignores the cancellation runs on without effect,
/// even after the instance was destroyed; this is safe because the library is never unloaded.
///
/// A library exports exactly one plugin type and links this library statically.
public protocol Plugin: Sendable {
    /// The name of the plugin, short, for logs.
    static var name: String { get }
    /// The version of the plugin, in any format.
    static var version: String { get }
    /// Whether the host may poll the plugin on a network event loop (`CHANSERV_PLUGIN_INLINE`). Default `false`.
    ///
    /// The plugin's functions run as tasks on Swift's pool in either case. Only two things run on the event loop. The
    /// first is the SDK's code that passes written frames to the host, which returns within microseconds if the frames
    /// are small or lent. The second is the function passed to ``FrameWriter/write(upTo:_:)``. The setting saves two
    /// thread switches for each request. A host with ABI version 1.0 refuses to load a plugin that sets it.
    static var isInline: Bool { get }

    /// Creates an instance. Several instances may exist at the same time. Validate the whole configuration here. The
    /// function may block, but the start or the reload of the host waits for it.
    ///
    /// - Throws: the error in the configuration. The host then does not start, or rejects the reload and keeps the old
    ///   generation.
    init(configuration: borrowing Configuration, log: Log) throws

    /// Serves a request: adds its sources and returns after the last one. The sources go on after that.
    ///
    /// - Throws: the failure of the request. Sources that were added go on.
    func serve(_ request: Request, to sources: SourceWriter) async throws

    /// Stops the instance: the host destroys it, and all its requests have ended. Must end everything that must not
    /// outlive the instance, such as threads and processes. May block. Tasks that ignore their cancellation may still
    /// run. Does nothing by default.
    func stop()
}

extension Plugin {
    public static var isInline: Bool { false }

    public func stop() {}
}

"""###,
"PluginError.swift": ###"""
import CChanservPlugin

/// A failure with an error code of the ABI. Any other error that a plugin throws is reported as "internal error".
public struct PluginError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kind of failure. Later versions may add more.
    public struct Code: Sendable, Hashable {
        let status: chanserv_status

        /// The request or the configuration is wrong. Repeating it fails again.
        public static let badRequest = Code(status: chanserv_status(CHANSERV_ERROR_BAD_REQUEST))
        /// The requested object does not exist.
        public static let notFound = Code(status: chanserv_status(CHANSERV_ERROR_NOT_FOUND))
        /// The plugin cannot serve now. A later attempt, or another host, may succeed.
        public static let busy = Code(status: chanserv_status(CHANSERV_ERROR_BUSY))
        /// Any other failure.
        public static let `internal` = Code(status: chanserv_status(CHANSERV_ERROR_INTERNAL))
    }

    /// The kind of failure.
    public var code: Code
    /// A description of the failure. It is logged and sent to the client, so it must not contain secrets.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Converts an error that a plugin threw.
    init(describing error: any Error) {
        switch error {
        case let error as PluginError: self = error
        case is CancellationError: self.init(.internal, "cancelled")
        default: self.init(.internal, String(describing: error))
        }
    }

    public var description: String { message }

    /// Reports the error to the host. Copies the message into the host's buffer, truncated between characters if
    /// necessary.
    func report(to error: UnsafeMutablePointer<chanserv_error>?) -> chanserv_status {
        guard let error, error.pointee.capacity > 0, let buffer = error.pointee.message else { return code.status }
        let room = error.pointee.capacity - 1
        var used = 0
        for scalar in message.unicodeScalars {
            // A zero byte would end the C string.
            let bytes = UTF8.encode(scalar.value == 0 ? "\u{FFFD}" : scalar) ?? UTF8.encodedReplacementCharacter
            guard used + bytes.count <= room else { break }
            for byte in bytes {
                buffer[used] = CChar(bitPattern: byte)
                used += 1
            }
        }
        buffer[used] = 0
        return code.status
    }
}

"""###,
"Queues.swift": ###"""
/// A bounded queue between a task of the plugin and the host. When it is full, the task waits.
protocol PipeQueue: SendableMetatype {
    init()
    var isEmpty: Bool { get }
    /// Returns whether an item of this size fits. An empty queue accepts any item.
    func hasRoom(for size: Int) -> Bool
}

/// A queue of frames: small frames are packed into one array, large frames stay in the plugin's memory, and functions
/// create a frame in the host's memory.
struct FrameQueue: PipeQueue {
    /// Writes a frame into the given memory.
    typealias Fill = @Sendable (inout OutputRawSpan) throws -> Void

    private enum Large {
        case bytes([UInt8])
        case lent(UnsafeRawBufferPointer, owner: AnyObject)
        case fill(Fill, capacity: Int)
    }

    private static let byteLimit = 256 * 1024
    private static let frameLimit = 1024
    /// Minimum size from which retaining the plugin's array costs less than copying it.
    static let largeSize = 2048

    private var bytes: [UInt8] = []
    /// One number for each frame: its end in `bytes`, or, if negative, the complement of its index in `large`.
    private var frames: [Int] = []
    private var large: [Large] = []
    /// The total size of all frames, including those in `bytes`.
    private var size = 0
    // The number of frames that were taken, and their end in `bytes`. All frames are removed together after the last
    // was taken.
    private var taken = 0
    private var takenBytes = 0

    init() {}

    var isEmpty: Bool { taken == frames.count }

    func hasRoom(for size: Int) -> Bool {
        isEmpty || (frames.count < Self.frameLimit && self.size + size <= Self.byteLimit)
    }

    mutating func append(_ frame: UnsafeRawBufferPointer) {
        // Copying a large frame into memory of exactly its size costs less than growing `bytes`.
        if frame.count > Self.byteLimit / 4 { return append(sharing: [UInt8](frame)) }
        bytes.append(contentsOf: frame)
        frames.append(bytes.count)
        size += frame.count
    }

    /// Adds a large frame without copying it.
    mutating func append(sharing frame: [UInt8]) {
        frames.append(~large.count)
        large.append(.bytes(frame))
        size += frame.count
    }

    /// Adds a frame in memory that does not change while `owner` is retained.
    mutating func append(lending frame: UnsafeRawBufferPointer, of owner: AnyObject) {
        frames.append(~large.count)
        large.append(.lent(frame, owner: owner))
        size += frame.count
    }

    mutating func append(capacity: Int, _ fill: @escaping Fill) {
        frames.append(~large.count)
        large.append(.fill(fill, capacity: capacity))
        size += capacity
    }

    /// Offers frames in order until one is not taken.
    ///
    /// - Parameters:
    ///   - take: returns whether it took the frame.
    ///   - lend: returns whether it took the frame. It may retain the owner and use the bytes later.
    ///   - fill: returns whether it had room of this capacity and let the function create the frame in it.
    mutating func drain(
        take: (UnsafeRawBufferPointer) -> Bool, lend: (UnsafeRawBufferPointer, _ owner: AnyObject) -> Bool,
        fill: (_ capacity: Int, Fill) throws -> Bool
    ) rethrows {
        try bytes.withUnsafeBytes { bytes in
            while taken < frames.count {
                let frame = frames[taken]
                if frame >= 0 {
                    guard take(UnsafeRawBufferPointer(rebasing: bytes[takenBytes..<frame])) else { return }
                    takenBytes = frame
                } else {
                    switch large[~frame] {
                    case .bytes(let bytes): guard bytes.withUnsafeBytes(take) else { return }
                    case .lent(let bytes, let owner): guard lend(bytes, owner) else { return }
                    case .fill(let body, let capacity): guard try fill(capacity, body) else { return }
                    }
                }
                taken += 1
            }
        }
        guard isEmpty else { return }
        // The memory is reused, unless it grew for a large frame.
        bytes.removeAll(keepingCapacity: bytes.count <= Self.byteLimit)
        frames.removeAll(keepingCapacity: true)
        large.removeAll(keepingCapacity: true)
        (size, taken, takenBytes) = (0, 0, 0)
    }
}

/// A queue of sources that the host has not taken.
struct SourceQueue: PipeQueue {
    private static let limit = 64

    private var sources: [Source] = []
    private var taken = 0

    init() {}

    var isEmpty: Bool { taken == sources.count }

    func hasRoom(for size: Int) -> Bool { sources.count < Self.limit }

    mutating func append(_ source: Source) {
        sources.append(source)
    }

    /// Offers sources in order until one is not taken.
    mutating func drain(_ take: (Source) -> Bool) {
        while taken < sources.count {
            guard take(sources[taken]) else { return }
            taken += 1
        }
        sources.removeAll(keepingCapacity: true)
        taken = 0
    }
}

"""###,
"Request.swift": ###"""
import CChanservPlugin

/// A request that a client posted.
public struct Request: Sendable {
    /// The body, at most 100 MiB.
    public let body: [UInt8]
    /// The virtual address to which the request was posted.
    public let vAddr: String
    /// The address of the client, in AstraNet notation.
    public let remoteAddress: String
    /// The time at which the client gives up; `nil` for no deadline. A plugin that cannot finish by then need not
    /// begin.
    public let deadline: ContinuousClock.Instant?
    /// The client's tag `meta`: free text about the request; `nil` if the client set none.
    public let meta: String?
    /// The client's tag `bucket`, by which it chose among several hosts; `nil` if the client set none.
    public let bucket: String?
    /// The `traceparent` of W3C Trace Context, for the plugin's own spans; `nil` if the client sent none.
    public let traceParent: String?
    /// `ip:port` of the client, or of the router through which the request came; may be empty.
    public let peerAddress: String
    /// The verified identity of the client. Always empty in this version.
    public let identity: String

    /// The body decoded as UTF-8; invalid bytes become U+FFFD.
    public var text: String { String(decoding: body, as: UTF8.self) }

    /// Copies a request of the host.
    ///
    /// - Parameter request: only its first `struct_size` bytes are readable. A host with ABI version 1.0 provides only
    ///   the first three properties.
    init(_ request: UnsafePointer<chanserv_request>) {
        body = [UInt8](UnsafeRawBufferPointer(start: request.pointee.body, count: request.pointee.body_size))
        vAddr = request.pointee.vaddr.map { String(cString: $0) } ?? ""
        remoteAddress = request.pointee.remote_address.map { String(cString: $0) } ?? ""
        guard request.pointee.struct_size >= Self.sizeOfVersion11 else {
            deadline = nil
            (meta, bucket, traceParent) = (nil, nil, nil)
            (peerAddress, identity) = ("", "")
            return
        }
        let left = request.pointee.deadline
        deadline = left < 0 ? nil : .now.advanced(by: .nanoseconds(left))
        meta = request.pointee.meta.map { String(cString: $0) }
        bucket = request.pointee.bucket.map { String(cString: $0) }
        traceParent = request.pointee.traceparent.map { String(cString: $0) }
        peerAddress = request.pointee.peer_address.map { String(cString: $0) } ?? ""
        identity = request.pointee.identity.map { String(cString: $0) } ?? ""
    }

    /// The minimum `struct_size` of a `chanserv_request` with the fields of version 1.1.
    private static let sizeOfVersion11 = UInt32(MemoryLayout<chanserv_request>.offset(of: \.flags)!)
}

"""###,
"Source.swift": ###"""
/// A source: a header and a function that writes frames.
public struct Source: Sendable {
    let header: [UInt8]
    let produce: @Sendable (FrameWriter) async throws -> Void

    /// Creates a source.
    ///
    /// - Parameters:
    ///   - header: the header that the client receives, at most 100 MiB; may be empty.
    ///   - frames: writes the frames. The source succeeds when the function returns and fails with the error that it
    ///     throws. It is called when the client requests the first frame, which may never happen.
    public init(
        header: some Collection<UInt8>, frames: @escaping @Sendable (_ frames: FrameWriter) async throws -> Void
    ) {
        self.header = [UInt8](header)
        produce = frames
    }

    /// Creates a source with a text header.
    ///
    /// - Parameters:
    ///   - header: the header as text.
    ///   - frames: writes the frames, as in ``init(header:frames:)``.
    public init(header: String, frames: @escaping @Sendable (_ frames: FrameWriter) async throws -> Void) {
        self.init(header: header.utf8, frames: frames)
    }

    /// Creates a source from a sequence of frames.
    ///
    /// - Parameters:
    ///   - header: the header that the client receives, at most 100 MiB; may be empty.
    ///   - frames: the frames, one for each element. They are requested only as far as the plugin may buffer them.
    public init<Frames>(header: some Collection<UInt8>, frames: Frames)
    where Frames: AsyncSequence & Sendable, Frames.Element: Collection<UInt8> & Sendable {
        self.init(header: header) { writer in
            for try await frame in frames {
                try await writer.write(frame)
            }
        }
    }
}

/// Adds the sources of a request.
public struct SourceWriter: Sendable {
    let pipe: Pipe<SourceQueue>

    /// Adds a source. Waits while the host has not taken enough earlier sources.
    ///
    /// - Throws: `CancellationError` after the request or the task was cancelled; ``PluginError`` if the header has
    ///   more than 100 MiB.
    public func add(_ source: Source) async throws {
        try checkSize(source.header.count, "header")
        try await pipe.write(size: 1) { $0.append(source) }
    }
}

/// Maximum size of a frame or header on the wire (`CHANSERV_FRAME_SIZE_MAX`).
let frameSizeMax = 104_857_600

func checkSize(_ size: Int, _ what: String) throws {
    guard size <= frameSizeMax else {
        throw PluginError(.internal, "a \(what) of \(size) bytes is larger than 100 MiB")
    }
}

"""###,
    ]
}
