import ChanservHost
import Dispatch
import Glibc

/// A host of a benchmark's own: this program as a second process, which serves the Load plugin on a free port.
final class BenchHost: Sendable {
    /// Leads to the plugin.
    static let vAddr = "load"
    /// The same, over a route that compresses.
    static let compressedVAddr = "load-compressed"

    /// How long it may take to be ready, and to end once it was told to.
    private static let patience = Duration.seconds(30)
    private static let endPatience = Duration.seconds(5)

    let address: HostAddress
    var id: Int32 { process.id }
    private let process: SpawnedProcess
    private let ended: Task<Int32, Never>

    private init(_ process: SpawnedProcess, at address: HostAddress, ended: Task<Int32, Never>) {
        self.process = process
        self.address = address
        self.ended = ended
    }

    /// Starts it, and returns when it is ready.
    ///
    /// - Parameters:
    ///   - plugin: the library.
    ///   - isolation: where it runs.
    ///   - threaded: whether it must not be called on the threads of the network.
    ///   - showsWarnings: whether warnings of the host are passed on to standard error; its errors always are.
    ///   - started: called with its process as soon as there is one.
    /// - Throws: ``BenchError``, or `CancellationError`; then it has ended.
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
        let (lines, told) = AsyncStream.makeStream(of: String.self, bufferingPolicy: .bufferingNewest(64))
        let ended = Task {
            await withCheckedContinuation { continuation in
                DispatchQueue(label: "chanserv.bench.host").async {
                    follow(process, until: told, showsWarnings: showsWarnings)
                    continuation.resume(returning: process.wait())
                }
            }
        }
        let patience = Task {
            try await Task.sleep(for: Self.patience)
            told.finish()
        }
        defer { patience.cancel() }
        var problems: [String] = []
        for await line in lines {
            if let address = line.firstMatch(of: #/ready: listening on (127\.0\.0\.1:\d+)/#) {
                return BenchHost(process, at: try HostAddress(String(address.output.1)), ended: ended)
            }
            if !line.contains(" info ") { problems.append(line) }
        }
        let code = await end(process, ended)
        try Task.checkCancellation()
        let reasons = problems.isEmpty ? "it was not ready in time" : problems.joined(separator: "\n")
        throw BenchError(
            code == 65 ? .configuration : .unavailable, "the host did not start: \(reasons)")
    }

    /// Hands over the lines up to the one that says *ready*. Afterwards it passes on errors, and warnings if they are shown.
    private static func follow(
        _ process: SpawnedProcess, until told: AsyncStream<String>.Continuation, showsWarnings: Bool
    ) {
        var rest: [UInt8] = []
        var isReady = false
        while let line = process.readLine(&rest) {
            if !isReady {
                told.yield(line)
                isReady = line.contains(" ready: ")
                if isReady { told.finish() }
            } else if isShown(line, showsWarnings: showsWarnings) {
                StandardError.write("host: \(line)")
            }
        }
        told.finish()
    }

    /// Whether a line of the host that is ready is passed on. A log line is `TIME LEVEL LABEL: …`; any other line comes from a
    /// crash.
    private static func isShown(_ line: String, showsWarnings: Bool) -> Bool {
        switch line.split(separator: " ", maxSplits: 2).dropFirst().first {
        case "trace", "debug", "info", "notice": false
        case "warning": showsWarnings
        default: true
        }
    }

    /// Ends it, and returns when it is gone.
    func stop() async {
        _ = await Self.end(process, ended)
    }

    private static func end(_ process: SpawnedProcess, _ ended: Task<Int32, Never>) async -> Int32 {
        process.signal(SIGTERM)
        let killer = Task {
            try await Task.sleep(for: endPatience)
            process.signal(SIGKILL)
        }
        defer { killer.cancel() }
        return await ended.value
    }

    // MARK: Its configuration

    /// The defaults, but for the number of streams: a benchmark may want more of them on one link than anybody should.
    private static func configuration(
        plugin: String, _ isolation: IsolationOptions.Isolation, threaded: Bool
    ) -> String {
        // Quoted for YAML, where a backslash and a quote are all that matters in a path without control characters.
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
            throw BenchError(.unavailable, "\(SystemError("cannot make a folder in \(parent)"))")
        }
        return String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func write(_ text: String, to path: String) throws {
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw SystemError("cannot create \(path)") }
        defer { close(file) }
        try Array(text.utf8).withUnsafeBytes { try writeAll($0, to: file, name: path) }
    }

    /// The host has read what is in it.
    private static func removeFolder(_ path: String) {
        if unlink(path + "/chanserv.yaml") != 0 || rmdir(path) != 0 {
            StandardError.write("chanserv: \(SystemError("cannot remove \(path)"))")
        }
    }
}
