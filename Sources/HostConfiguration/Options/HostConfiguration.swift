/// The content of `chanserv.yaml`, fully checked except for what needs a loaded plugin.
public struct HostConfiguration: Sendable, Hashable {
    /// The path of the file as the caller passed it; messages contain it.
    public var file: String
    /// The absolute folder that relative paths are resolved against: the folder of the file.
    public var folder: String
    /// The `node` section.
    public var node: Node
    /// The `log` section.
    public var log = Log()
    /// The section `access`; `nil`, the default, allows everything.
    public var access: AccessOptions?
    /// The entries of `plugins`, in the order of the file.
    public var plugins: [Plugin]
    /// The entries of `routes`, in the order of the file. No two have the same ``Route/vAddr``.
    public var routes: [Route]
    /// The section `drop_in`; `nil`, the default, for no drop-ins.
    public var dropIn: DropInOptions?
    /// The drop-ins, in the order of their names. The plugins and routes of the valid ones are also in ``plugins`` and
    /// ``routes``.
    public var dropIns: [DropIn] = []
    /// The files that were read, except for those of drop-ins.
    @NotCompared package var source = ConfigurationSource()
    /// Warnings, sorted by position, such as a plugin that no route uses.
    public var warnings: [ConfigurationError]

    /// The host's node in the mesh.
    public struct Node: Sendable, Hashable {
        /// The name of the host (`name`), for people. None by default.
        public var name: String?
        /// The addresses to listen at (`listen`: one or a list). `127.0.0.1:5555` by default. Port 0 means any free
        /// port.
        public var listen = [ListenOptions(.tcp(host: "127.0.0.1", port: 5555))]
        /// The nodes to join (`join`: one or a list). None by default.
        public var join: [JoinOptions] = []
        /// Appended to every service name after a dot (`environment`). None by default.
        public var environment: String?
        /// What the node does for other nodes (`role`). ``Role/peer`` by default.
        public var role = Role.peer
        /// Limits on the resources that other nodes can use (`limits`).
        public var limits = Limits()
        /// How long SIGTERM lets running requests go on before the host cancels them (`drain`). 30 seconds by default.
        public var drain = Duration.seconds(30)
        /// The Unix socket for `chanserv status` and similar commands (`control`), an absolute path. None by default.
        public var control: String?
        /// The position of ``control``.
        @NotCompared public var controlLocation: ConfigurationLocation? = nil

        public init() {}
    }

    /// What the host logs.
    public struct Log: Sendable, Hashable {
        /// Where one line for each request goes (`access`).
        public var access = AccessLog.off
        /// The position of ``access``.
        @NotCompared public var accessLocation: ConfigurationLocation? = nil

        public init() {}
    }

    /// The place of the access log.
    public enum AccessLog: Sendable, Hashable {
        case off
        /// Lines of the host's own log.
        case log
        /// A file, by its absolute path.
        case file(String)
    }

    /// A library that can serve routes.
    public struct Plugin: Sendable, Hashable {
        /// The key of the entry, which routes refer to.
        public var name: String
        /// The library's file (`path`), absolute.
        public var path: String
        /// The required SHA-256 of the library (`sha256`), 64 hexadecimal digits in lower case. `nil`, the default,
        /// accepts any.
        public var sha256: String?
        /// The number of threads for an instance of a library that blocks (`threads`). 16 by default.
        public var threads = Self.defaultThreads
        /// Whether the host may call the library on event loops if the library allows it (`inline`). `true` by default.
        public var allowsInline = true
        /// Where its instances run, and their limits (`isolation`, `processes`, `limits` …).
        public var isolation = IsolationOptions()
        /// The configuration (`config`) of the plugin, before a route's is merged over it.
        public var configuration: PluginConfiguration
        /// The position of the key.
        @NotCompared public var location: ConfigurationLocation
        /// The position of the path, for errors about the file.
        @NotCompared public var pathLocation: ConfigurationLocation

        /// The default of ``threads``.
        public static let defaultThreads = 16
    }

    /// A virtual address and the plugin that serves it.
    public struct Route: Sendable, Hashable {
        /// The name that clients request (`vaddr`), without the environment.
        public var vAddr: String
        /// The ``Plugin/name`` of the plugin that serves the route (`plugin`). The plugin exists.
        public var plugin: String
        /// The plugin's configuration with the route's `config` merged over it.
        public var configuration: PluginConfiguration
        /// The options of `defaults` with the route's own merged over them.
        public var options: RouteOptions
        /// The position of the entry.
        @NotCompared public var location: ConfigurationLocation
        /// The position of the virtual address.
        @NotCompared public var vAddrLocation: ConfigurationLocation
    }

    /// Returns the plugin with this name.
    public func plugin(named name: String) -> Plugin? {
        plugins.first { $0.name == name }
    }

    /// The file that `serve` and `check` read by default.
    public static let defaultFile = "chanserv.yaml"
}
