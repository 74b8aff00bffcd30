/// What `chanserv.yaml` says, checked as a whole: everything that can be known without loading a plugin.
public struct HostConfiguration: Sendable, Hashable {
    /// The file as it was named, and as it stands in messages.
    public var file: String
    /// The folder relative paths are relative to: the file's, absolute.
    public var folder: String
    /// The `node` section.
    public var node: Node
    /// The entries of `plugins`, in the order of the file.
    public var plugins: [Plugin]
    /// The entries of `routes`, in the order of the file. No two have the same ``Route/vAddr``.
    public var routes: [Route]
    /// What is doubtful but no error, e.g. a plugin no route names; sorted by place.
    public var warnings: [ConfigurationError]

    /// Where the host stands in the network.
    public struct Node: Sendable {
        /// The addresses to listen at (`listen`: one or a list). `127.0.0.1:5555` by default; port 0 is any free one.
        public var listen = [HostAddress(host: "127.0.0.1", port: 5555)]
        /// The nodes to join (`join`: one or a list). None by default.
        public var join: [HostAddress] = []
        /// Appended to every service name after a dot (`environment`). None by default.
        public var environment: String?
        /// What the node does for others (`role`). ``Role/peer`` by default.
        public var role = Role.peer
        /// What others may make the node hold (`limits`).
        public var limits = Limits()
        /// How long SIGTERM waits for running requests before it cancels them (`drain`). 30 seconds by default.
        public var drain = Duration.seconds(30)
        /// The Unix socket for `chanserv status` and the like (`control`), an absolute path. None by default.
        public var control: String?
        /// Where ``control`` stands.
        public var controlLocation: ConfigurationLocation?
        /// Where the addresses of ``listen`` stand; those of the default stand nowhere.
        public var listenLocations: [HostAddress: ConfigurationLocation] = [:]

        public init() {}
    }

    /// A library that can serve routes.
    public struct Plugin: Sendable {
        /// The key it stands under; what routes call it.
        public var name: String
        /// Its file (`path`), absolute.
        public var path: String
        /// The SHA-256 its bytes must have (`sha256`), 64 hexadecimal digits in lower case. Not pinned by default.
        public var sha256: String?
        /// How many threads a library that blocks gets (`threads`); `nil` leaves it to the host.
        public var threads: Int?
        /// Whether a library that allows it is called on the network's threads (`inline`). `true` by default.
        public var allowsInline = true
        /// Where its instances run, and within which bounds (`isolation`, `processes`, `limits` …).
        public var isolation = IsolationOptions()
        /// Its configuration (`config`) without any route's.
        public var configuration: PluginConfiguration
        /// Where its key stands.
        public var location: ConfigurationLocation
        /// Where its path stands, for what is wrong with the file.
        public var pathLocation: ConfigurationLocation
    }

    /// A virtual address and what answers there.
    public struct Route: Sendable {
        /// The name clients ask for (`vaddr`), without the environment.
        public var vAddr: String
        /// The ``Plugin/name`` of the plugin that serves it (`plugin`); it exists.
        public var plugin: String
        /// The plugin's configuration with the route's (`config`) merged over it.
        public var configuration: PluginConfiguration
        /// `defaults` with the route's own options over them.
        public var options: RouteOptions
        /// Where the entry begins.
        public var location: ConfigurationLocation
        /// Where its virtual address stands.
        public var vAddrLocation: ConfigurationLocation
    }

    /// The plugin a route names.
    public func plugin(named name: String) -> Plugin? {
        plugins.first { $0.name == name }
    }

    /// The file `serve` and `check` read when none is named.
    public static let defaultFile = "chanserv.yaml"
}

/// Two nodes are equal when they say the same, wherever it stands.
extension HostConfiguration.Node: Hashable {
    public static func == (left: Self, right: Self) -> Bool {
        left.listen == right.listen && left.join == right.join && left.environment == right.environment
            && left.role == right.role && left.limits == right.limits && left.drain == right.drain
            && left.control == right.control
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(listen)
        hasher.combine(join)
        hasher.combine(environment)
        hasher.combine(role)
        hasher.combine(limits)
        hasher.combine(drain)
        hasher.combine(control)
    }
}

/// Two plugins are equal when they say the same, wherever they stand; so a reload can tell whether one changed.
extension HostConfiguration.Plugin: Hashable {
    public static func == (left: Self, right: Self) -> Bool {
        left.name == right.name && left.path == right.path && left.sha256 == right.sha256
            && left.threads == right.threads && left.isolation == right.isolation
            && left.configuration == right.configuration
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(name)
        hasher.combine(path)
        hasher.combine(sha256)
        hasher.combine(threads)
        hasher.combine(isolation)
        hasher.combine(configuration)
    }
}

/// Two routes are equal when they say the same, wherever they stand; so a reload can tell whether one changed.
extension HostConfiguration.Route: Hashable {
    public static func == (left: Self, right: Self) -> Bool {
        left.vAddr == right.vAddr && left.plugin == right.plugin && left.configuration == right.configuration
            && left.options == right.options
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(vAddr)
        hasher.combine(plugin)
        hasher.combine(configuration)
        hasher.combine(options)
    }
}
