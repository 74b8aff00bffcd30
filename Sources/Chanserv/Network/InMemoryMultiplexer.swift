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
        var onConnection: @Sendable (any Connection) -> DialAnswer
    }

    private struct Storage {
        var names: [String: Bound] = [:]
        var lastNumber = 0
        var diallers: [String: [Event]] = [:]
        var connections: [ObjectIdentifier: InMemoryPair] = [:]
        var isClosed = false
        var nextPort = 1
    }

    /// Maximum bytes of a connection that the reader has not taken, in each direction.
    public let window: Int
    private let turns = InMemoryEventLoop()
    private let storage = NIOLockedValueBox(Storage())

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
        onConnection: @escaping @Sendable (any Connection) -> DialAnswer
    ) throws(ConnectionError) -> any Binding {
        let result = storage.withLockedValue { storage -> Result<(Int, [Event]), ConnectionError> in
            if storage.isClosed { return .failure(ConnectionError(.closed, "the network was shut down")) }
            if storage.names[name] != nil { return .failure(ConnectionError(.addressInUse, name)) }
            storage.lastNumber += 1
            storage.names[name] = Bound(number: storage.lastNumber, onConnection: onConnection)
            return .success((storage.lastNumber, storage.diallers.removeValue(forKey: name) ?? []))
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
            let hasOffer = Event()
            let mustWait = storage.withLockedValue { storage in
                guard storage.names[name] == nil, !storage.isClosed else { return false }
                storage.diallers[name, default: []].append(hasOffer)
                return true
            }
            guard mustWait else { continue }
            switch await hasOffer.wait(deadline: deadline) {
            case .signalled: continue
            case .expired:
                stopWaiting(hasOffer, for: name)
                throw ConnectionError(.notFound, "no host offers \(name)")
            case .cancelled:
                stopWaiting(hasOffer, for: name)
                throw CancellationError()
            }
        }
    }

    public nonisolated(nonsending) func dial(
        _ name: String, receivedFrom peer: any Connection, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        try await dial(name, DialOptions(), deadline: deadline).connection
    }

    public func dialNow(
        _ name: String, receivedFrom peer: any Connection, delegate: any ConnectionDelegate
    ) throws(ConnectionError) -> (any Connection)? {
        guard let connection = try connect(name, RequestContext()) else { return nil }
        connection.setDelegate(delegate)
        return connection
    }

    /// Connects to a name; `nil` if it is not bound.
    private func connect(_ name: String, _ context: RequestContext) throws(ConnectionError) -> InMemoryConnection? {
        let result = storage.withLockedValue {
            storage -> Result<(Bound, InMemoryPair)?, ConnectionError> in
            if storage.isClosed { return .failure(ConnectionError(.closed, "the network was shut down")) }
            guard let bound = storage.names[name] else { return .success(nil) }
            let pair = InMemoryPair(window: window, port: storage.nextPort, context: context, network: turns) {
                [weak self] pair in
                self?.forget(pair)
            }
            storage.nextPort += 2
            storage.connections[ObjectIdentifier(pair)] = pair
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
    public var connectionCount: Int { storage.withLockedValue { $0.connections.count } }

    /// The names that are bound.
    public var names: Set<String> { storage.withLockedValue { Set($0.names.keys) } }

    /// Breaks every connection with `connectionLost`. Names stay bound.
    public func breakConnections() {
        let pairs = storage.withLockedValue { storage in
            defer { storage.connections = [:] }
            return storage.connections.values
        }
        for pair in pairs { pair.lose() }
    }

    /// Shuts the network down: withdraws all names and breaks all connections. Later binds and dials fail.
    public func shutDown() {
        let (diallers, bound) = storage.withLockedValue { storage in
            storage.isClosed = true
            defer {
                storage.names = [:]
                storage.diallers = [:]
            }
            return (storage.diallers.values, storage.names.values)
        }
        for dialler in diallers.joined() { dialler.signal() }
        for name in bound { name.onWithdrawal?() }
        breakConnections()
    }

    private func whenWithdrawn(_ name: String, _ number: Int, _ body: @escaping @Sendable () -> Void) {
        let isWithdrawn = storage.withLockedValue { storage in
            if storage.names[name]?.number == number { storage.names[name]?.onWithdrawal = body }
            return storage.isClosed
        }
        if isWithdrawn { body() }
    }

    private func unbind(_ name: String, _ number: Int) {
        storage.withLockedValue { storage in
            if storage.names[name]?.number == number { storage.names[name] = nil }
        }
    }

    private func forget(_ pair: InMemoryPair) {
        storage.withLockedValue { $0.connections[ObjectIdentifier(pair)] = nil }
    }

    private func stopWaiting(_ dialler: Event, for name: String) {
        storage.withLockedValue { storage in
            storage.diallers[name]?.removeAll { $0 === dialler }
            if storage.diallers[name]?.isEmpty == true { storage.diallers[name] = nil }
        }
    }
}
