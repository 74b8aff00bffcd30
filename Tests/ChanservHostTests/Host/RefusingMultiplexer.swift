import Chanserv
import ChanservHost
import HostConfiguration
import NIOConcurrencyHelpers

/// A multiplexer that refuses to bind one name.
final class RefusingMultiplexer: Multiplexer {
    private let inner: any Multiplexer
    private let refused = NIOLockedValueBox<String?>(nil)

    init(_ inner: any Multiplexer) {
        self.inner = inner
    }

    /// Refuses to bind this name from now on; `nil` refuses no name.
    func refuse(_ name: String?) { refused.withLockedValue { $0 = name } }

    var surroundings: NetworkEnvironment { inner.surroundings }

    func bind(
        _ name: String, visibleTo peer: (any Connection)?,
        onConnection: @escaping @Sendable (any Connection) -> DialAnswer
    ) throws(ConnectionError) -> any Binding {
        if name == refused.withLockedValue({ $0 }) {
            throw ConnectionError(.addressInUse, "the test refuses \(name)")
        }
        return try inner.bind(name, visibleTo: peer, onConnection: onConnection)
    }

    func dial(
        _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool) {
        try await inner.dial(name, request, deadline: deadline)
    }

    func dial(
        _ name: String, receivedFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        try await inner.dial(name, receivedFrom: peer, deadline: deadline)
    }

    func dialNow(
        _ name: String, receivedFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? {
        try inner.dialNow(name, receivedFrom: peer, delegate: delegate)
    }
}

/// The network of a host: a real node that refuses to bind one name.
struct RefusingHostNetwork: HostNetwork {
    let node: AstraNetHostNetwork
    let refusing: RefusingMultiplexer

    init(_ node: AstraNetHostNetwork) {
        self.node = node
        refusing = RefusingMultiplexer(node.multiplexer)
    }

    var multiplexer: any Multiplexer { refusing }

    func listen(at address: HostAddress) async throws -> HostAddress { try await node.listen(at: address) }
    func keepJoined(_ address: HostAddress) async { await node.keepJoined(address) }
    func shutdown() async { await node.shutdown() }
}
