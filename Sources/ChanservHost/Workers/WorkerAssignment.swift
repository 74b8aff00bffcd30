internal import FoundationEssentials

/// What a worker process is told when it starts: a JSON text in a sealed file that it inherits.
struct WorkerAssignment: Codable, Sendable {
    /// What the process is for.
    enum Purpose: String, Codable, Sendable {
        /// To serve one instance until it is told to retire.
        case serve
        /// To create and destroy an instance of each configuration, and end.
        case preflight
    }

    var purpose: Purpose
    /// As the configuration names the plugin.
    var plugin: String
    /// The library's path as configured, for messages.
    var path: String
    /// Its SHA-256, in hex.
    var digest: String
    /// Its size, in bytes.
    var size: Int
    /// The `config` of the instance, or of each one to be tried.
    var configurations: [PluginConfiguration]
    /// How many threads an instance of a library that blocks gets.
    var threads: Int?
    /// Whether the instance may be called on the network's threads.
    var allowsInline = true
    /// Nanoseconds.
    var callBudget: Int64
    /// Nanoseconds.
    var killAfter: Int64?
    var nice: Int
    var limits: IsolationOptions.Limits
    /// Bytes of private memory, for a preflight.
    var dataLimit: Int?
    /// Whether there is memory that it shares with its host.
    var sharesFrames = false
    /// The lowest level of the host's log, so that what it leaves out is not sent.
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
    /// Rounded down; the host's durations are at most a year.
    var wholeNanoseconds: Int128 { attoseconds / 1_000_000_000 }
}

/// With its places, so that a getter in the worker complains about the same line as one here would.
extension PluginConfiguration: Codable {
    private enum CodingKeys: CodingKey {
        case folder, root
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(folder, forKey: .folder)
        try container.encode(root, forKey: .root)
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            try container.decode(YAMLNode.self, forKey: .root),
            folder: try container.decode(String.self, forKey: .folder))
    }
}
