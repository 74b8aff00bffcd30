internal import Glibc

/// How a plugin's instances are run where that is said: in this process or in others, and within which bounds.
///
/// The keys stand under a plugin, and, all but `limits`, under `defaults`.
public struct IsolationOptions: Sendable, Hashable {
    /// Where instances run.
    public enum Isolation: String, Sendable, Hashable, CaseIterable {
        /// In the host (`isolation: host`): the fastest; a crash ends the host.
        case host
        /// In processes of their own (`isolation: process`): a crash ends that plugin's streams and nothing else.
        case process
    }

    /// Where instances run (`isolation`). `host` by default.
    public var isolation = Isolation.host
    /// How many processes an instance gets, among which its requests are spread (`processes`). 1 by default.
    public var processes = 1
    /// How long a call into the plugin may take before it is logged and counted (`call_budget`). 1 s by default.
    public var callBudget = Duration.seconds(1)
    /// How long a call may take before its process is killed (`kill_after`); `nil`, the default, is for ever. Only in
    /// processes.
    public var killAfter: Duration?
    /// How long a process may say nothing before it is killed (`heartbeat_timeout`): it reports once a second, whatever its
    /// plugin does. 30 s by default, at least 4 s; `nil` is for ever.
    public var heartbeatTimeout: Duration? = .seconds(30)
    /// How long a library may take to be loaded and to create its instance in a process, and to create and destroy it in
    /// the preflight (`startup`). 10 s by default.
    public var startup = Duration.seconds(10)
    /// Whether a library that was not loaded before is tried in a short-lived process first (`preflight`). By default.
    public var preflight = true
    /// What is added to the host's niceness for the processes, 0 to 19 (`nice`). 0 by default.
    public var nice = 0
    /// The environment variables that the processes get, where the host has them (`environment`).
    public var environment = Self.defaultEnvironment
    /// Bounds of each process (`limits`).
    public var limits = Limits()

    /// What programs need to find their way about, and nothing that could be a secret.
    public static let defaultEnvironment = [
        "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER",
    ]

    /// Bounds of a process that the kernel watches; `nil` is what the host itself has.
    public struct Limits: Sendable, Hashable, Codable {
        /// Bytes of address space (`address_space`): what goes beyond finds no memory. None by default.
        public var addressSpace: Int?
        /// Seconds of processor time (`cpu`), after which the process is killed. None by default.
        public var cpu: Int?
        /// Open descriptors (`open_files`). None by default.
        public var openFiles: Int?

        public init() {}

        /// To be put behind the reason why a process could not start; empty where nothing is limited.
        var hint: String {
            let names = [addressSpace.map { _ in "address_space" }, openFiles.map { _ in "open_files" }].compactMap {
                $0
            }
            return names.isEmpty ? "" : " (its limits may be too low for it: \(names.joined(separator: ", ")))"
        }
    }

    public init() {}
}

extension IsolationOptions {
    /// What a process gets as its environment, `NAME=value` each.
    var processEnvironment: [String] {
        let passed = environment.compactMap { name in getenv(name).map { "\(name)=\(String(cString: $0))" } }
        // Swift's own crash reports take seconds in which clients would wait for a process that is lost; whoever wants them
        // lists the variable.
        return environment.contains("SWIFT_BACKTRACE") ? passed : passed + ["SWIFT_BACKTRACE=enable=no"]
    }
}
