/// The `chanserv_plugin.h` of version 1.0 without its comments. Existing plugins were built with it, so it never
/// changes.
let abi10Header = #"""
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
    #define CHANSERV_ABI_MINOR 0
    #define CHANSERV_PLUGIN_MAGIC UINT32_C(0x50534843)
    #define CHANSERV_HOST_MAGIC UINT32_C(0x48534843)
    #define CHANSERV_ENTRY chanserv_plugin_v1
    #define CHANSERV_ENTRY_NAME "chanserv_plugin_v1"
    #define CHANSERV_FRAME_SIZE_MAX ((size_t)104857600)
    typedef int32_t chanserv_status;
    enum {
        CHANSERV_READY = 0,
        CHANSERV_PENDING = 1,
        CHANSERV_END = 2,
        CHANSERV_FULL = 3,
        CHANSERV_ERROR_BAD_REQUEST = -1,
        CHANSERV_ERROR_NOT_FOUND = -2,
        CHANSERV_ERROR_BUSY = -3,
        CHANSERV_ERROR_INTERNAL = -4,
        CHANSERV_ERROR_TOO_LARGE = -5
    };
    typedef struct chanserv_error {
        char *message;
        size_t capacity;
    } chanserv_error;
    typedef struct chanserv_instance chanserv_instance;
    typedef struct chanserv_call chanserv_call;
    typedef struct chanserv_source chanserv_source;
    typedef struct chanserv_config chanserv_config;
    enum {
        CHANSERV_LOG_DEBUG = 0,
        CHANSERV_LOG_INFO = 1,
        CHANSERV_LOG_WARNING = 2,
        CHANSERV_LOG_ERROR = 3
    };
    typedef struct chanserv_host {
        uint32_t magic;
        uint16_t abi_major;
        uint16_t abi_minor;
        uint32_t struct_size;
        uint32_t reserved;
        void (*wake)(const struct chanserv_host *host, uint64_t handle);
        void (*log)(const struct chanserv_host *host, int32_t level, const char *message, size_t size);
        chanserv_status (*config_json)(const struct chanserv_host *host, const chanserv_config *config,
                                       const char **value, size_t *size);
        chanserv_status (*config_string)(const struct chanserv_host *host, const chanserv_config *config,
                                         const char *path, const char **value, size_t *size, chanserv_error *error);
        chanserv_status (*config_integer)(const struct chanserv_host *host, const chanserv_config *config,
                                          const char *path, int64_t *value, chanserv_error *error);
        chanserv_status (*config_number)(const struct chanserv_host *host, const chanserv_config *config,
                                         const char *path, double *value, chanserv_error *error);
        chanserv_status (*config_boolean)(const struct chanserv_host *host, const chanserv_config *config,
                                          const char *path, int32_t *value, chanserv_error *error);
        chanserv_status (*config_duration)(const struct chanserv_host *host, const chanserv_config *config,
                                           const char *path, int64_t *nanoseconds, chanserv_error *error);
        chanserv_status (*config_size)(const struct chanserv_host *host, const chanserv_config *config,
                                       const char *path, uint64_t *bytes, chanserv_error *error);
        chanserv_status (*config_count)(const struct chanserv_host *host, const chanserv_config *config,
                                        const char *path, size_t *count, chanserv_error *error);
        chanserv_status (*config_only)(const struct chanserv_host *host, const chanserv_config *config,
                                       const char *const *known, size_t count, chanserv_error *error);
        chanserv_status (*config_path)(const struct chanserv_host *host, const chanserv_config *config,
                                       const char *path, const char **value, size_t *size, chanserv_error *error);
    } chanserv_host;
    typedef struct chanserv_request {
        uint32_t struct_size;
        uint32_t reserved;
        const void *body;
        size_t body_size;
        const char *vaddr;
        const char *remote_address;
    } chanserv_request;
    typedef struct chanserv_source_sink {
        uint32_t struct_size;
        uint32_t reserved;
        uint64_t wake;
        chanserv_status (*add)(struct chanserv_source_sink *sink, const void *header, size_t header_size,
                               chanserv_source *source);
    } chanserv_source_sink;
    typedef struct chanserv_frame_sink {
        uint32_t struct_size;
        uint32_t reserved;
        uint64_t wake;
        chanserv_status (*append)(struct chanserv_frame_sink *sink, const void *data, size_t size);
        void *(*reserve)(struct chanserv_frame_sink *sink, size_t minimum, size_t *capacity);
        chanserv_status (*commit)(struct chanserv_frame_sink *sink, size_t size);
    } chanserv_frame_sink;
    enum {
        CHANSERV_PLUGIN_SERIAL = 1 << 0,
        CHANSERV_PLUGIN_BLOCKING = 1 << 1
    };
    typedef struct chanserv_plugin {
        uint32_t magic;
        uint16_t abi_major;
        uint16_t abi_minor;
        uint32_t struct_size;
        uint32_t flags;
        const char *name;
        const char *version;
        chanserv_status (*create)(const chanserv_host *host, const chanserv_config *config,
                                  chanserv_instance **instance, chanserv_error *error);
        void (*destroy)(chanserv_instance *instance);
        chanserv_status (*open)(chanserv_instance *instance, const chanserv_request *request, chanserv_call **call,
                                chanserv_error *error);
        chanserv_status (*poll_sources)(chanserv_call *call, chanserv_source_sink *sink, chanserv_error *error);
        void (*cancel_call)(chanserv_call *call);
        void (*close_call)(chanserv_call *call);
        chanserv_status (*poll_frames)(chanserv_source *source, chanserv_frame_sink *sink, chanserv_error *error);
        void (*cancel_source)(chanserv_source *source);
        void (*close_source)(chanserv_source *source);
    } chanserv_plugin;
    CHANSERV_EXPORT const chanserv_plugin *chanserv_plugin_v1(void);
    #ifdef __cplusplus
    }
    #endif
    #endif

    """#
