import Chanserv
import Synchronization

/// A workload that can be measured.
protocol Workload: Sendable {
    /// The name of the subcommand.
    var name: String { get }
    /// A short description for the text report.
    var summary: String { get }
    /// The options of the workload for the JSON report.
    var parameters: [String: BenchParameter] { get }
    /// The kinds of frames that the workload requests.
    var kinds: [LoadKind] { get }
    /// Whether the workload's requests set ``LoadRequest/lends``.
    var lends: Bool { get }

    /// Runs the workload once, checks all responses and returns the figures.
    ///
    /// - Throws: ``BenchError`` if a response is wrong; errors of the client.
    func run(_ bench: BenchContext) async throws -> [Figure]
}

extension Workload {
    var lends: Bool { false }
}

/// The environment of a workload.
struct BenchContext: Sendable {
    var client: Client
    /// An address of the Load plugin.
    var vAddr: String
    /// An address of the Load plugin whose route compresses frames.
    var compressedVAddr: String
    /// The expected content of frames by kind, created before the measurement; `nil` without `--verify`.
    var contents: [LoadKind: LoadContent]?
    /// The process ID of the host; `nil` if this command did not start it.
    var hostID: Int32?
    /// Counts for the progress line.
    var tally: Tally
    /// The executor of the callers of small requests, which is the link's event loop; `nil` for Swift's cooperative
    /// pool.
    ///
    /// Readers of large responses do not use it, because they would delay other traffic of the link.
    var executor: (any TaskExecutor)?
}

/// Counters that tasks of the workload increment and the progress line reads.
final class Tally: Sendable {
    private let frameCount = Atomic(0)
    private let byteCount = Atomic(0)
    private let requestCount = Atomic(0)

    var frames: Int { frameCount.load(ordering: .relaxed) }
    var bytes: Int { byteCount.load(ordering: .relaxed) }
    var requests: Int { requestCount.load(ordering: .relaxed) }

    func add(frames: Int, bytes: Int) {
        frameCount.wrappingAdd(frames, ordering: .relaxed)
        byteCount.wrappingAdd(bytes, ordering: .relaxed)
    }

    func addRequest() { requestCount.wrappingAdd(1, ordering: .relaxed) }
}
