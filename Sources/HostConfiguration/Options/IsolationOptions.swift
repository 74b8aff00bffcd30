/// Options of the isolation of a plugin's instances: in the host's process or in worker processes, and their limits.
///
/// The keys belong to a plugin. All except `limits` may also be set under `defaults`.
public struct IsolationOptions: Sendable, Hashable {
    /// Process that runs the instances.
    public enum Isolation: String, Sendable, Hashable, CaseIterable {
        /// The host's process (`isolation: host`). This is the fastest way, but a crash ends the host.
        case host
        /// Worker processes (`isolation: process`). A crash ends the open requests in that process.
        case process
    }

    /// Process that runs the instances (`isolation`). The default is `host`.
    public var isolation = Isolation.host
    /// Number of processes of an instance, which share its requests (`processes`). The default is 1.
    public var processes = 1
    /// Maximum duration of a call into the plugin before it is logged and counted (`call_budget`). The default is 1 s.
    public var callBudget = Duration.seconds(1)
    /// Maximum duration of a call before its process is killed (`kill_after`). `nil`, the default, is unlimited.
    /// Applies only to worker processes.
    public var killAfter: Duration?
    /// Maximum time without a report from a process before it is killed (`heartbeat_timeout`). A process reports once a
    /// second, independent of its plugin. The default is 30 s, the minimum 4 s; `nil` is unlimited.
    public var heartbeatTimeout: Duration? = .seconds(30)
    /// Minimum of ``heartbeatTimeout``: the time of four reports.
    package static let minimumHeartbeatTimeout = Duration.seconds(4)
    /// Maximum time for loading a library and creating its instance in a process, and for the whole preflight
    /// (`startup`). The default is 10 s.
    public var startup = Duration.seconds(10)
    /// Whether a changed library, or a changed `config`, is tested in a short-lived process first (`preflight`). The
    /// default is `true`.
    public var preflight = true
    /// Increment of the niceness of the processes over that of the host, 0 to 19 (`nice`). The default is 0.
    public var nice = 0
    /// Names of the environment variables that the processes get if the host has them (`environment`).
    public var environment = Self.defaultEnvironment
    /// Resource limits of each process (`limits`).
    public var limits = Limits()

    /// Variables that programs commonly need and that contain no secrets.
    public static let defaultEnvironment = [
        "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER",
    ]

    /// Resource limits of a process that the kernel enforces. `nil` keeps the limit of the host.
    public struct Limits: Sendable, Hashable, Codable {
        /// Maximum address space in bytes (`address_space`). Allocations beyond it fail. `nil` by default.
        public var addressSpace: Int?
        /// Maximum processor time in seconds (`cpu`), after which the process is killed. `nil` by default.
        public var cpu: Int?
        /// Maximum number of open descriptors (`open_files`). `nil` by default.
        public var openFiles: Int?

        public init() {}
    }

    public init() {}
}
