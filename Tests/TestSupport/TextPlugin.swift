/// C source of a plugin that refuses all requests. Its version is the text that `static const char *text(void)`
/// returns, which the test adds.
package let textPluginSource = """
    #include <stdio.h>
    #include "chanserv_plugin.h"
    #define VISIBLE __attribute__((visibility("default")))
    static chanserv_status create(const chanserv_host *h, const chanserv_config *c, chanserv_instance **i,
                                  chanserv_error *e) { (void)h; (void)c; (void)e; *i = (void *)1; return 0; }
    static void destroy(chanserv_instance *i) { (void)i; }
    static chanserv_status open_call(chanserv_instance *i, const chanserv_request *r, chanserv_call **c,
                                     chanserv_error *e) { (void)i; (void)r; (void)c; (void)e; return -3; }
    static chanserv_status sources(chanserv_call *c, chanserv_source_sink *s, chanserv_error *e) {
        (void)c; (void)s; (void)e; return 2; }
    static void on_call(chanserv_call *c) { (void)c; }
    static chanserv_status frames(chanserv_source *c, chanserv_frame_sink *s, chanserv_error *e) {
        (void)c; (void)s; (void)e; return 2; }
    static void on_source(chanserv_source *c) { (void)c; }
    static char buffer[200];
    static const char *text(void);
    CHANSERV_EXPORT const chanserv_plugin *CHANSERV_ENTRY(void) {
        static chanserv_plugin plugin = {
            CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), 0, "text",
            buffer,
            create, destroy, open_call, sources, on_call, on_call, frames, on_source, on_source,
        };
        snprintf(buffer, sizeof buffer, "%s", text());
        return &plugin;
    }

    """

/// C source of the function `text` that formats values as `printf` does.
package func textFunction(_ format: String, _ values: String) -> String {
    """
    static const char *text(void) {
        static char own[100];
        snprintf(own, sizeof own, "\(format)", \(values));
        return own;
    }

    """
}
