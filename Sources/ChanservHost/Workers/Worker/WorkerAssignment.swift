internal import FoundationEssentials
package import HostConfiguration
package import PluginRuntime

/// Assignment of a worker process: a JSON text in a sealed file that the process inherits.
package struct WorkerAssignment: Codable, Sendable {
    /// Purpose of the process.
    package enum Purpose: String, Codable, Sendable {
        /// Serve one instance until the host retires it.
        case serve
        /// Create and destroy an instance of each configuration, then end.
        case preflight
    }

    package var purpose: Purpose
    /// Name of the plugin in the configuration.
    package var plugin: String
    /// Path of the library as configured, for messages.
    package var path: String
    /// SHA-256 of the library in hexadecimal digits.
    package var digest: String
    /// The files outside of the system folders that the library needed when the host read it.
    package var needed: [NeededLibrary]
    /// Size of the library in bytes.
    package var size: Int
    /// The `config` of the instance, or of each instance in a preflight.
    package var configurations: [PluginConfiguration]
    /// Number of threads of an instance of a blocking library.
    package var threads: Int
    /// Whether the instance may be called on event loops.
    package var allowsInline = true
    /// In nanoseconds.
    package var callBudget: Int64
    /// In nanoseconds.
    package var killAfter: Int64?
    package var nice: Int
    package var limits: IsolationOptions.Limits
    /// Maximum private memory in bytes, for a preflight.
    package var dataLimit: Int?
    /// Whether a preflight reports the error of a library that cannot be loaded or refuses an instance.
    package var reportsRefusals = false
    /// Whether the process shares memory with its host.
    package var sharesFrames = false
    /// Lowest level of the host's log. The worker does not send messages below it.
    package var logLevel: String

    package func encoded() throws -> [UInt8] { [UInt8](try JSONEncoder().encode(self)) }

    package init(decoding bytes: [UInt8]) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(bytes))
    }
}

extension WorkerAssignment {
    package init(
        _ purpose: Purpose, of library: ExaminedLibrary, plugin: String, configurations: [PluginConfiguration],
        threads: Int, allowsInline: Bool = true, options: IsolationOptions, logLevel: String
    ) {
        self.purpose = purpose
        self.plugin = plugin
        path = library.path
        digest = library.digest.description
        needed = library.needed
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
    package var wholeNanoseconds: Int128 { attoseconds / 1_000_000_000 }
}
