import AstraNet
import Chanserv
import ChanservAstraNet
import NIOCore

/// The multiplexer of a node's chanserv server and clients. It records the ports of all public names.
///
/// `@unchecked Sendable`: see ``World``.
final class NamedPorts: Multiplexer, @unchecked Sendable {
    private let inner: AstraNetMultiplexer
    /// Ports of public names.
    private(set) var bound: [String: UInt32] = [:]

    var surroundings: NetworkEnvironment { inner.surroundings }

    init(_ node: Node) {
        inner = AstraNetMultiplexer(node)
    }

    func bind(
        _ name: String, visibleTo peer: (any Chanserv.Connection)?,
        onConnection: @escaping @Sendable (any Chanserv.Connection) -> DialAnswer
    ) throws(ConnectionError) -> any Binding {
        let binding = try inner.bind(name, visibleTo: peer, onConnection: onConnection)
        guard peer == nil, let listener = binding as? Listener else { return binding }
        let port = listener.address.port
        bound[name] = port
        return Name(binding) { [weak self] in
            if self?.bound[name] == port { self?.bound[name] = nil }
        }
    }

    private final class Name: Binding {
        private let binding: any Binding
        private let forget: @Sendable () -> Void

        init(_ binding: any Binding, _ forget: @escaping @Sendable () -> Void) {
            self.binding = binding
            self.forget = forget
        }

        func close() {
            forget()
            binding.close()
        }

        func whenWithdrawn(_ body: @escaping @Sendable () -> Void) { binding.whenWithdrawn(body) }
    }

    nonisolated(nonsending) func dial(
        _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Chanserv.Connection, isSent: Bool) {
        try await inner.dial(name, request, deadline: deadline)
    }

    nonisolated(nonsending) func dial(
        _ name: String, receivedFrom peer: any Chanserv.Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Chanserv.Connection {
        try await inner.dial(name, receivedFrom: peer, deadline: deadline)
    }

    func dialNow(
        _ name: String, receivedFrom peer: any Chanserv.Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Chanserv.Connection)? {
        try inner.dialNow(name, receivedFrom: peer, delegate: delegate)
    }
}
