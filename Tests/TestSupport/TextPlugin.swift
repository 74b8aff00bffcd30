/// C source of a plugin that refuses all requests. Its version is the text that `static const char *text(void)`
/// returns, which the test adds.
package let textPluginSource =
    stubFunctions + """
        #include <stdio.h>
        #define VISIBLE __attribute__((visibility("default")))
        static char buffer[200];
        static const char *text(void);
        CHANSERV_EXPORT const chanserv_plugin *CHANSERV_ENTRY(void) {
            static chanserv_plugin plugin = {
                CHANSERV_PLUGIN_MAGIC, CHANSERV_ABI_MAJOR, CHANSERV_ABI_MINOR, sizeof(chanserv_plugin), 0, "text",
                buffer,
                STUB_FUNCTIONS,
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
