import AstraNet
import NIOCore

/// A stream of either kind of node, as the workload uses it.
protocol SimulatedStream: AnyObject, Sendable {
    /// Bytes, or `nil` at the end of file.
    func receive(deadline: UInt64) async throws -> ByteBuffer?
    func send(_ bytes: ByteBuffer, deadline: UInt64) async throws
    func close()
    /// Whether the peer takes nothing more.
    var isPeerGone: Bool { get }
}

/// A node of either kind, from start to crash.
protocol SimulatedNode: AnyObject, Sendable {
    var hostID: HostID { get }
    /// Binds a name, and calls `accepted` for each stream.
    func bind(_ name: String, accepted: @escaping @Sendable (any SimulatedStream) -> Void)
    func unbind(_ name: String)
    /// The names bound now, with their ports.
    var bound: [String: UInt32] { get }
    func dial(_ name: String, first: ByteBuffer, deadline: UInt64) async throws -> any SimulatedStream
    /// Serves requests under a name, for as long as the node runs or until ``stopServing(_:)``.
    func serve(_ name: String, for workload: RequestWorkload)
    func stopServing(_ name: String)
    /// Posts a request and reads its answer to the end.
    func run(_ request: SimulatedRequest, for workload: RequestWorkload) async -> RequestWorkload.Outcome
    /// It vanishes, as in a power cut.
    func crash()
}

/// What a host of the world runs.
enum NodeKind: Hashable {
    case ours(NodeConfiguration.Role)
    case goLike(NodeConfiguration.Role)

    var isOurs: Bool {
        if case .ours = self { true } else { false }
    }

    var role: NodeConfiguration.Role {
        switch self {
        case .ours(let role), .goLike(let role): role
        }
    }
}

/// What a host is from the world's beginning to its end, whatever runs on it.
struct HostPlan {
    var kind: NodeKind
    /// Names or IP addresses.
    var joins: [String]
    /// Names bound at each start.
    var services: [String]
    /// Names at each start under which requests are answered.
    var answers: [String] = []
    /// Nanoseconds.
    var startsAt: UInt64
}
