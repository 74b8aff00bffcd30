import Dispatch
import Glibc
import HostConfiguration

/// A host that a benchmark starts: this program as a second process, which serves the Load plugin on a free port.
final class BenchHost: Sendable {
    /// The address of the plugin.
    static let vAddr = "load"
    /// The address of the plugin over a route with compression.
    static let compressedVAddr = "load-compressed"

    private static let startTimeout = Duration.seconds(30)
    /// Time between SIGTERM and SIGKILL.
    private static let stopTimeout = Duration.seconds(5)

    let address: HostAddress
    var id: Int32 { process.id }
    private let process: SpawnedProcess
    private let ended: Task<Int32, Never>

    private init(_ process: SpawnedProcess, at address: HostAddress, ended: Task<Int32, Never>) {
        self.process = process
        self.address = address
        self.ended = ended
    }

    /// Starts a host and returns when it is ready.
    ///
    /// - Parameters:
    ///   - plugin: the path of the library.
    ///   - isolation: whether the plugin runs in the host or in a worker process.
    ///   - threaded: whether the plugin is called on plugin threads only, not on event loops.
    ///   - showsWarnings: whether warnings of the host are copied to standard error. Errors always are.
    ///   - started: receives the process as soon as it exists.
    /// - Throws: ``BenchError``, or `CancellationError`. The process has exited then.
    static func start(
        plugin: String, isolation: IsolationOptions.Isolation, threaded: Bool, showsWarnings: Bool,
        started: (SpawnedProcess) -> Void
    ) async throws -> BenchHost {
        let folder = try makeFolder()
        defer { removeFolder(folder) }
        let file = folder + "/chanserv.yaml"
        do {
            try write(configuration(plugin: plugin, isolation, threaded: threaded), to: file)
            let process = try SpawnedProcess("/proc/self/exe", ["serve", "--stop-with-input", "--config", file])
            started(process)
            return try await ready(process, showsWarnings: showsWarnings)
        } catch let error as SystemError {
            throw BenchError(.unavailable, "\(error)")
        }
    }

    private static func ready(_ process: SpawnedProcess, showsWarnings: Bool) async throws -> BenchHost {
        let (lines, lineContinuation) = AsyncStream.makeStream(of: String.self, bufferingPolicy: .bufferingNewest(64))
        let ended = Task {
            await withCheckedContinuation { continuation in
                DispatchQueue(label: "chanserv.bench.host").async {
                    readLog(of: process, startLines: lineContinuation, showsWarnings: showsWarnings)
                    continuation.resume(returning: process.wait())
                }
            }
        }
        let timeout = Task {
            try await Task.sleep(for: startTimeout)
            lineContinuation.finish()
        }
        defer { timeout.cancel() }
        var problems: [String] = []
        for await line in lines {
            if let address = line.firstMatch(of: #/ready: listening on (127\.0\.0\.1:\d+)/#) {
                return BenchHost(process, at: try HostAddress(String(address.output.1)), ended: ended)
            }
            if !line.contains(" info ") { problems.append(line) }
        }
        let code = await end(process, ended)
        try Task.checkCancellation()
        let reasons = problems.isEmpty ? "it did not become ready" : problems.joined(separator: "\n")
        throw BenchError(
            code == 65 ? .configuration : .unavailable, "the host did not start: \(reasons)")
    }

    /// Reads the host's log until it ends. Blocks.
    ///
    /// Yields the lines up to the one that reports *ready* to `startLines`. Copies later errors, and warnings if they
    /// are shown, to standard error.
    private static func readLog(
        of process: SpawnedProcess, startLines: AsyncStream<String>.Continuation, showsWarnings: Bool
    ) {
        var rest: [UInt8] = []
        var isReady = false
        while let line = process.readLine(&rest) {
            if !isReady {
                startLines.yield(line)
                isReady = line.contains(" ready: ")
                if isReady { startLines.finish() }
            } else if isShown(line, showsWarnings: showsWarnings) {
                StandardError.write("host: \(line)")
            }
        }
        startLines.finish()
    }

    /// Returns whether a line of a ready host is copied to standard error. A log line is `TIME LEVEL LABEL: …`; any
    /// other line comes from a crash.
    private static func isShown(_ line: String, showsWarnings: Bool) -> Bool {
        switch line.split(separator: " ", maxSplits: 2).dropFirst().first {
        case "trace", "debug", "info", "notice": false
        case "warning": showsWarnings
        default: true
        }
    }

    /// Stops the host and returns after its exit.
    func stop() async {
        _ = await Self.end(process, ended)
    }

    private static func end(_ process: SpawnedProcess, _ ended: Task<Int32, Never>) async -> Int32 {
        process.signal(SIGTERM)
        let killer = Task {
            try await Task.sleep(for: stopTimeout)
            process.signal(SIGKILL)
        }
        defer { killer.cancel() }
        return await ended.value
    }

    // MARK: The configuration of the host

    /// Returns the configuration. Its limits are raised, because a benchmark may need more streams on one link than the
    /// default limit.
    private static func configuration(
        plugin: String, _ isolation: IsolationOptions.Isolation, threaded: Bool
    ) -> String {
        // A YAML string in quotation marks. In a path without control characters, only `\` and `"` need an escape.
        let path = plugin.reduce(into: "") { $0 += $1 == "\\" || $1 == "\"" ? "\\\($1)" : String($1) }
        return """
            node:
              listen: 127.0.0.1:0
              drain: 1s
              limits: {streams: 16777216, half_open: 16777216, services: 16777216}
            plugins:
              load: {path: "\(path)", isolation: \(isolation.rawValue), inline: \(!threaded)}
            routes:
              - {vaddr: \(vAddr), plugin: load}
              - {vaddr: \(compressedVAddr), plugin: load, compression: true}

            """
    }

    private static func makeFolder() throws(BenchError) -> String {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var path = Array("\(parent)/chanserv-bench-XXXXXX".utf8CString)
        guard mkdtemp(&path) != nil else {
            throw BenchError(.unavailable, "\(SystemError("cannot create a folder in \(parent)"))")
        }
        return String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func write(_ text: String, to path: String) throws {
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw SystemError("cannot create \(path)") }
        defer { close(file) }
        try Array(text.utf8).withUnsafeBytes { try writeAll($0, to: file, name: path) }
    }

    /// Removes the folder of the configuration file, which the host has read.
    private static func removeFolder(_ path: String) {
        if unlink(path + "/chanserv.yaml") != 0 || rmdir(path) != 0 {
            StandardError.write("chanserv: \(SystemError("cannot remove \(path)"))")
        }
    }
}
