internal import FoundationEssentials
internal import HostConfiguration

/// Assignment of a worker process: a JSON text in a sealed file that the process inherits.
struct WorkerAssignment: Codable, Sendable {
    /// Purpose of the process.
    enum Purpose: String, Codable, Sendable {
        /// Serve one instance until the host retires it.
        case serve
        /// Create and destroy an instance of each configuration, then end.
        case preflight
    }

    var purpose: Purpose
    /// Name of the plugin in the configuration.
    var plugin: String
    /// Path of the library as configured, for messages.
    var path: String
    /// SHA-256 of the library in hexadecimal digits.
    var digest: String
    /// Size of the library in bytes.
    var size: Int
    /// The `config` of the instance, or of each instance in a preflight.
    var configurations: [PluginConfiguration]
    /// Number of threads of an instance of a blocking library.
    var threads: Int?
    /// Whether the instance may be called on event loops.
    var allowsInline = true
    /// In nanoseconds.
    var callBudget: Int64
    /// In nanoseconds.
    var killAfter: Int64?
    var nice: Int
    var limits: IsolationOptions.Limits
    /// Maximum private memory in bytes, for a preflight.
    var dataLimit: Int?
    /// Whether the process shares memory with its host.
    var sharesFrames = false
    /// Lowest level of the host's log. The worker does not send messages below it.
    var logLevel: String

    func encoded() throws -> [UInt8] { [UInt8](try JSONEncoder().encode(self)) }

    init(decoding bytes: [UInt8]) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(bytes))
    }
}

extension WorkerAssignment {
    init(
        _ purpose: Purpose, of library: ExaminedLibrary, plugin: String, configurations: [PluginConfiguration],
        threads: Int?, allowsInline: Bool = true, options: IsolationOptions, logLevel: String
    ) {
        self.purpose = purpose
        self.plugin = plugin
        path = library.path
        digest = library.digest.description
        size = library.size
        self.configurations = configurations
        self.threads = threads
        self.allowsInline = allowsInline
        callBudget = Int64(clamping: options.callBudget.wholeNanoseconds)
        killAfter = options.killAfter.map { Int64(clamping: $0.wholeNanoseconds) }
        nice = options.nice
        limits = options.limits
        self.logLevel = logLevel
    }
}

extension Duration {
    /// Duration in nanoseconds, rounded down. Durations of the host are at most one year.
    var wholeNanoseconds: Int128 { attoseconds / 1_000_000_000 }
}
