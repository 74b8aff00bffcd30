import Chanserv
import Synchronization

/// Something to measure: does it once, checks all that comes, and tells what it saw.
protocol Workload: Sendable {
    /// The subcommand's name.
    var name: String { get }
    /// What was measured, in a few words.
    var summary: String { get }
    /// What it was measured with, for programs.
    var parameters: [String: BenchParameter] { get }
    /// The kinds of frames that come.
    var kinds: [LoadKind] { get }
    /// Whether its requests have ``LoadRequest/lends``.
    var lends: Bool { get }

    /// - Throws: ``BenchError`` where what came is not what was asked for; errors of the client.
    func run(_ bench: BenchContext) async throws -> [Figure]
}

extension Workload {
    var lends: Bool { false }
}

/// What workloads work with.
struct BenchContext: Sendable {
    var client: Client
    /// Leads to the Load plugin.
    var vAddr: String
    /// Leads to the Load plugin over a route that compresses.
    var compressedVAddr: String
    /// What frames of each kind are compared with, where that was asked for; made before anything is measured.
    var contents: [LoadKind: LoadContent]?
    /// The host's process, where it was started here.
    var hostID: Int32?
    /// What came so far, for whoever looks on.
    var tally: Tally
    /// Where requests are posted and answers read; `nil` for Swift's own pool.
    var executor: (any TaskExecutor)?
}

/// Counts that one task adds to and another looks at.
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
