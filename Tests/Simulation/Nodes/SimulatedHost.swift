import AstraNet
import NIOCore

/// A stream of either kind of node.
protocol SimulatedStream: AnyObject, Sendable {
    /// Waits for bytes. Returns `nil` at the end of file.
    func receive(deadline: UInt64) async throws -> ByteBuffer?
    func send(_ bytes: ByteBuffer, deadline: UInt64) async throws
    func close()
    /// Ends the stream with an error at the peer.
    func fail(_ message: String)
    /// Whether the peer takes no more bytes.
    var isPeerClosed: Bool { get }
    /// What the node knows about the caller; `nil` if it does not check callers.
    var caller: SimulatedCaller? { get }
}

/// A node of either kind, from start to crash.
protocol SimulatedNode: AnyObject, Sendable {
    var hostID: HostID { get }
    /// Binds a name and calls `accepted` for each stream.
    func bind(_ name: String, accepted: @escaping @Sendable (any SimulatedStream) -> Void)
    func unbind(_ name: String)
    /// The bound names and their ports.
    var bound: [String: UInt32] { get }
    func dial(_ name: String, first: ByteBuffer, deadline: UInt64) async throws -> any SimulatedStream
    /// Serves requests under a name until the node crashes or ``stopServing(_:)`` is called.
    func serve(_ name: String, for workload: RequestWorkload)
    func stopServing(_ name: String)
    /// Posts a request and reads its answer to the end.
    func run(_ request: SimulatedRequest, for workload: RequestWorkload) async -> RequestWorkload.Outcome
    /// Ends the node without notice to its peers, as a power failure does.
    func crash()
}

/// The implementation and role of a node.
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

/// The properties of a host that stay the same when its node restarts.
struct HostPlan {
    var kind: NodeKind
    /// DNS names or IP addresses to join.
    var joins: [String]
    /// Names of stream services, bound at each start.
    var services: [String]
    /// Names of request services, served from each start.
    var answers: [String] = []
    /// Start time in nanoseconds.
    var startsAt: UInt64
}
