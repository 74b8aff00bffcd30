/// The section `drop_in`: a folder whose libraries are served without an entry in the configuration file.
public struct DropInOptions: Sendable, Hashable {
    /// The folder (`folder`), an absolute path.
    public var folder = ""
    /// Whether the host watches the folder and applies changes by itself (`watch`). `true` by default. Otherwise a
    /// reload applies them.
    public var watch = true
    /// How long the folder must be unchanged before the host reads it (`settle`). 500 ms by default.
    public var settle = Duration.milliseconds(500)
    /// Maximum time from the first change until the host reads the folder, even if it still changes (`max_settle`). 10
    /// seconds by default.
    public var maxSettle = Duration.seconds(10)
    /// The time between two checks for changes that the kernel does not report, as on network file systems
    /// (`rescan`). 60 seconds by default; `nil` for none.
    public var rescan: Duration? = .seconds(60)
    /// What happens to the routes of a drop-in that was removed (`on_remove`). ``RemovalPolicy/drain`` by default.
    public var onRemove = RemovalPolicy.drain
    /// Whether the host refuses to start if a drop-in cannot be served (`strict`). `false` by default: it serves the
    /// others.
    public var strict = false
    /// Whether a library without a YAML file beside it is not served (`require_yaml`). `false` by default.
    public var requireYAML = false

    public init() {}

    /// What happens to the routes of a drop-in that was removed.
    public enum RemovalPolicy: String, Sendable, Hashable, CaseIterable {
        /// They are withdrawn, and open requests may go on for the time to drain.
        case drain
        /// They are served until the host is restarted.
        case keep
    }
}

/// A file pair of the drop-in folder: `NAME.so`, `NAME.yaml`, or both.
public struct DropIn: Sendable, Hashable {
    /// The name of the files without the ending. It is also the name of the plugin, and the virtual address if the YAML
    /// file has no routes.
    public var name: String
    /// The library or, if it is missing, the YAML file.
    public var file: String
    /// Whether the library exists.
    public var hasLibrary: Bool
    /// What the files say.
    public var content: Content

    /// What the files of a drop-in say.
    public enum Content: Sendable, Hashable {
        /// A plugin and its routes.
        case valid(HostConfiguration.Plugin, [HostConfiguration.Route])
        /// The YAML file has `enabled: false`.
        case disabled
        /// The files are wrong. The errors are sorted by position, and there is at least one.
        case invalid([ConfigurationError])

        /// Whether the files are wrong.
        public var isInvalid: Bool {
            switch self {
            case .invalid: true
            case .valid, .disabled: false
            }
        }
    }
}
