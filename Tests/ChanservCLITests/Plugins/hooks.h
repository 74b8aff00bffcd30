/* The default hooks of conforming.c. A plugin that breaks a rule overrides some of them. */
/* Additional members. */
#ifndef INSTANCE_FIELDS
#define INSTANCE_FIELDS
#endif
#ifndef CALL_FIELDS
#define CALL_FIELDS
#endif
#ifndef SOURCE_FIELDS
#define SOURCE_FIELDS
#endif
/* Delay before a wake in microseconds. */
#ifndef WAKE_DELAY
#define WAKE_DELAY 1000
#endif
/* The wake calls of the thread and of cancel. */
#ifndef WAKE
#define WAKE(host, handle) (host)->wake(host, handle)
#endif
#ifndef CANCEL_WAKE
#define CANCEL_WAKE(host, handle) (host)->wake(host, handle)
#endif
#ifndef ERROR_MESSAGE
#define ERROR_MESSAGE(error, text) snprintf((error)->message, (error)->capacity, "%s", text)
#endif
#ifndef ONLY
#define ONLY(host, config, known, error) (host)->config_only(host, config, known, 2, error)
#endif
/* Runs after the getter of the option `limit`. */
#ifndef ON_LIMIT
#define ON_LIMIT(status)
#endif
#ifndef ON_CREATE
#define ON_CREATE(instance)
#endif
#ifndef ON_DESTROY
#define ON_DESTROY(instance)
#endif
#ifndef ON_OPEN
#define ON_OPEN(instance, request)
#endif
#ifndef ON_OPENED
#define ON_OPENED(call, request)
#endif
/* Runs after the sink refused a source. `taken` is the number of sources that it took before in this poll. */
#ifndef ON_SOURCE_FULL
#define ON_SOURCE_FULL(taken)
#endif
#ifndef ON_FRAME_FULL
#define ON_FRAME_FULL(status, taken)
#endif
/* Runs after a reservation was filled. */
#ifndef ON_FILLED
#define ON_FILLED(place, capacity)
#endif
#ifndef ON_POLL_FRAMES
#define ON_POLL_FRAMES(source)
#endif
#ifndef ON_CANCEL_SOURCE
#define ON_CANCEL_SOURCE(source)
#endif
#ifndef ON_CLOSE_SOURCE
#define ON_CLOSE_SOURCE(source)
#endif
#ifndef ON_CANCEL_CALL
#define ON_CANCEL_CALL(call)
#endif
#ifndef ON_CLOSE_CALL
#define ON_CLOSE_CALL(call)
#endif
#ifndef LAST_STATUS
#define LAST_STATUS CHANSERV_END
#endif
#ifndef DESCRIPTOR_STORAGE
#define DESCRIPTOR_STORAGE const
#endif
#ifndef DESCRIPTOR_MAGIC
#define DESCRIPTOR_MAGIC CHANSERV_PLUGIN_MAGIC
#endif
#ifndef DESCRIPTOR_CLOSE_SOURCE
#define DESCRIPTOR_CLOSE_SOURCE close_source
#endif
#ifndef ON_ENTRY
#define ON_ENTRY
#endif
#ifndef DESCRIPTOR_FLAGS
#define DESCRIPTOR_FLAGS CHANSERV_PLUGIN_INLINE
#endif
/* Whether the host has lend. */
#ifndef HAS_LEND
#define HAS_LEND(sink) CHANSERV_HAS(sink, chanserv_frame_sink, lend)
#endif
/* Run before and after the call of lend. */
#ifndef ON_LEND
#define ON_LEND(lent)
#endif
#ifndef ON_LENT
#define ON_LENT(lent, status)
#endif
#ifndef ON_RELEASE
#define ON_RELEASE(lent)
#endif
