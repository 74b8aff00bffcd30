/// C source of functions of a plugin that refuses all requests, for the descriptors of tests. `STUB_FUNCTIONS` is the
/// functions in the order of the descriptor, and `STUB_AFTER_CREATE` those after `create`.
package let stubFunctions = """
    #include "chanserv_plugin.h"
    #define STUB __attribute__((unused)) static
    STUB chanserv_status stub_create(const chanserv_host *h, const chanserv_config *c, chanserv_instance **i,
                                     chanserv_error *e) { (void)h; (void)c; (void)e; *i = (void *)1; return 0; }
    STUB void stub_destroy(chanserv_instance *i) { (void)i; }
    STUB chanserv_status stub_open(chanserv_instance *i, const chanserv_request *r, chanserv_call **c,
                                   chanserv_error *e) { (void)i; (void)r; (void)c; (void)e; return -3; }
    STUB chanserv_status stub_sources(chanserv_call *c, chanserv_source_sink *s, chanserv_error *e) {
        (void)c; (void)s; (void)e; return 2; }
    STUB void stub_call(chanserv_call *c) { (void)c; }
    STUB chanserv_status stub_frames(chanserv_source *c, chanserv_frame_sink *s, chanserv_error *e) {
        (void)c; (void)s; (void)e; return 2; }
    STUB void stub_source(chanserv_source *c) { (void)c; }
    #define STUB_AFTER_CREATE stub_destroy, stub_open, stub_sources, stub_call, stub_call, stub_frames, \\
        stub_source, stub_source
    #define STUB_FUNCTIONS stub_create, STUB_AFTER_CREATE

    """
