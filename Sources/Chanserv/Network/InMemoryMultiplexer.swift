import NIOConcurrencyHelpers
import NIOCore

/// A network inside one process, for tests and for a client and a server in the same process.
///
/// It behaves as AstraNet does. Each direction has a bounded window. A client can wait for a name. Ends and failures
/// arrive after the bytes that were sent before them. Every name is visible to all clients. A bucket has no effect
/// because a name has one offer. Sources are dialled by name, never pushed.
public final class InMemoryMultiplexer: Multiplexer {
    private struct Bound {
        var number: Int
        var onWithdrawal: (@Sendable () -> Void)?
        var onConnection: @Sendable (any Connection) -> Admission
    }

    private struct Inside {
        var names: [String: Bound] = [:]
        var lastNumber = 0
        var diallers: [String: [Event]] = [:]
        var connections: [ObjectIdentifier: InMemoryPair] = [:]
        var isClosed = false
        var nextPort = 1
    }

    /// Maximum bytes of a connection that the reader has not taken, in each direction.
    public let window: Int
    private let turns = InMemoryTurns()
    private let inside = NIOLockedValueBox(Inside())

    /// Creates a network without names.
    ///
    /// - Parameter window: the maximum of unread bytes of a connection in each direction. Default 65,536.
    public init(window: Int = 65_536) {
        self.window = max(1, window)
    }

    /// A bound name.
    private final class Name: Binding {
        private let network: InMemoryMultiplexer
        private let name: String
        private let number: Int

        init(_ network: InMemoryMultiplexer, _ name: String, _ number: Int) {
            self.network = network
            self.name = name
            self.number = number
        }

        func close() { network.unbind(name, number) }
        func whenWithdrawn(_ body: @escaping @Sendable () -> Void) { network.whenWithdrawn(name, number, body) }
    }

    public func bind(
        _ name: String, visibleTo peer: (any Connection)?,
        onConnection: @escaping @Sendable (any Connection) -> Admission
    ) throws(ConnectionError) -> any Binding {
        let result = inside.withLockedValue { inside -> Result<(Int, [Event]), ConnectionError> in
            if inside.isClosed { return .failure(ConnectionError(.closed, "the network was shut down")) }
            if inside.names[name] != nil { return .failure(ConnectionError(.addressInUse, name)) }
            inside.lastNumber += 1
            inside.names[name] = Bound(number: inside.lastNumber, onConnection: onConnection)
            return .success((inside.lastNumber, inside.diallers.removeValue(forKey: name) ?? []))
        }
        let (number, diallers) = try result.get()
        for dialler in diallers { dialler.signal() }
        return Name(self, name, number)
    }

    public nonisolated(nonsending) func dial(
        _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
    ) async throws -> (connection: any Connection, isSent: Bool) {
        while true {
            try Task.checkCancellation()
            if let connection = try connect(name, request.context) {
                try await connection.opened(deadline: deadline)
                if let refusal = connection.pair.refusal {
                    connection.close()
                    throw ConnectionError(.refused, refusal)
                }
                return (connection, false)
            }
            let offered = Event()
            let mustWait = inside.withLockedValue { inside in
                guard inside.names[name] == nil, !inside.isClosed else { return false }
                inside.diallers[name, default: []].append(offered)
                return true
            }
            guard mustWait else { continue }
            switch await offered.wait(deadline: deadline) {
            case .signalled: continue
            case .expired:
                stopWaiting(offered, for: name)
                throw ConnectionError(.notFound, "no host offers \(name)")
            case .cancelled:
                stopWaiting(offered, for: name)
                throw CancellationError()
            }
        }
    }

    public nonisolated(nonsending) func dial(
        _ name: String, learntFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        try await dial(name, DialOptions(), deadline: deadline).connection
    }

    public func dialNow(
        _ name: String, learntFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? {
        guard let connection = try connect(name, RequestContext()) else { return nil }
        connection.setDelegate(delegate)
        return connection
    }

    /// Connects to a name; `nil` if it is not bound.
    private func connect(_ name: String, _ context: RequestContext) throws(ConnectionError) -> InMemoryConnection? {
        let result = inside.withLockedValue {
            inside -> Result<(Bound, InMemoryPair)?, ConnectionError> in
            if inside.isClosed { return .failure(ConnectionError(.closed, "the network was shut down")) }
            guard let bound = inside.names[name] else { return .success(nil) }
            let pair = InMemoryPair(window: window, port: inside.nextPort, context: context, network: turns) {
                [weak self] pair in
                self?.forget(pair)
            }
            inside.nextPort += 2
            inside.connections[ObjectIdentifier(pair)] = pair
            return .success((bound, pair))
        }
        guard let (bound, pair) = try result.get() else { return nil }
        turns.run {
            switch bound.onConnection(InMemoryConnection(pair, .listener)) {
            case .accepted: pair.accept()
            case .refused(let message): pair.refuse(message)
            }
        }
        return InMemoryConnection(pair, .dialler)
    }

    /// The number of connections that at least one side has not ended.
    public var connectionCount: Int { inside.withLockedValue { $0.connections.count } }

    /// The names that are bound.
    public var names: Set<String> { inside.withLockedValue { Set($0.names.keys) } }

    /// Breaks every connection with `connectionLost`. Names stay bound.
    public func breakConnections() {
        let pairs = inside.withLockedValue { inside in
            defer { inside.connections = [:] }
            return inside.connections.values
        }
        for pair in pairs { pair.lose() }
    }

    /// Shuts the network down: withdraws all names and breaks all connections. Later binds and dials fail.
    public func shutDown() {
        let (diallers, bound) = inside.withLockedValue { inside in
            inside.isClosed = true
            defer {
                inside.names = [:]
                inside.diallers = [:]
            }
            return (inside.diallers.values, inside.names.values)
        }
        for dialler in diallers.joined() { dialler.signal() }
        for name in bound { name.onWithdrawal?() }
        breakConnections()
    }

    private func whenWithdrawn(_ name: String, _ number: Int, _ body: @escaping @Sendable () -> Void) {
        let isWithdrawn = inside.withLockedValue { inside in
            if inside.names[name]?.number == number { inside.names[name]?.onWithdrawal = body }
            return inside.isClosed
        }
        if isWithdrawn { body() }
    }

    private func unbind(_ name: String, _ number: Int) {
        inside.withLockedValue { inside in
            if inside.names[name]?.number == number { inside.names[name] = nil }
        }
    }

    private func forget(_ pair: InMemoryPair) {
        inside.withLockedValue { $0.connections[ObjectIdentifier(pair)] = nil }
    }

    private func stopWaiting(_ dialler: Event, for name: String) {
        inside.withLockedValue { inside in
            inside.diallers[name]?.removeAll { $0 === dialler }
            if inside.diallers[name]?.isEmpty == true { inside.diallers[name] = nil }
        }
    }
}
