import NIOConcurrencyHelpers

/// A network inside one process: for tests, and for a client and a server that live together.
///
/// It behaves as AstraNet does: bounded windows in each direction, names that can be waited for, ends and failures that
/// arrive behind the bytes before them. Every name is visible to everybody, whoever it was bound for; a bucket has no
/// meaning, because a name has one offer.
public final class InMemoryMultiplexer: Multiplexer {
    private struct Inside {
        var listeners: [String: InMemoryListener] = [:]
        var diallers: [String: [Event]] = [:]
        var connections: [ObjectIdentifier: InMemoryPair] = [:]
        var closed = false
        var nextPort = 1
    }

    /// How many bytes a connection may have under way in each direction.
    public let window: Int
    private let inside = NIOLockedValueBox(Inside())

    /// Makes a network without names.
    ///
    /// - Parameter window: how many bytes a connection may have under way in each direction. Default 65,536.
    public init(window: Int = 65_536) {
        self.window = max(1, window)
    }

    public func bind(_ name: String, visibleTo peer: (any Connection)?) throws -> any ConnectionListener {
        let listener = InMemoryListener { [weak self] in self?.unbind(name) }
        let diallers = try inside.withLockedValue { inside in
            if inside.closed { throw ConnectionError(.closed, "the network was shut down") }
            if inside.listeners[name] != nil { throw ConnectionError(.addressInUse, name) }
            inside.listeners[name] = listener
            return inside.diallers.removeValue(forKey: name) ?? []
        }
        for dialler in diallers { dialler.signal() }
        return listener
    }

    public func dial(
        _ name: String, bucket: String?, deadline: ContinuousClock.Instant
    ) async throws -> any Connection {
        while true {
            try Task.checkCancellation()
            let offered = Event()
            let (listener, pair) = try inside.withLockedValue { inside in
                if inside.closed { throw ConnectionError(.closed, "the network was shut down") }
                guard let listener = inside.listeners[name] else {
                    inside.diallers[name, default: []].append(offered)
                    return (nil as InMemoryListener?, nil as InMemoryPair?)
                }
                let pair = InMemoryPair(window: window, port: inside.nextPort) { [weak self] pair in
                    self?.forget(pair)
                }
                inside.nextPort += 2
                inside.connections[ObjectIdentifier(pair)] = pair
                return (listener, pair)
            }
            if let listener, let pair {
                try listener.offer(InMemoryConnection(pair, .listener))
                return InMemoryConnection(pair, .dialler)
            }
            switch await offered.wait(deadline: deadline) {
            case .signalled: continue
            case .expired:
                stopWaiting(offered, for: name)
                throw ConnectionError(.notFound, "nobody offers \(name)")
            case .cancelled:
                stopWaiting(offered, for: name)
                throw CancellationError()
            }
        }
    }

    /// How many connections have not been ended by both sides.
    public var connectionCount: Int { inside.withLockedValue { $0.connections.count } }

    /// The names that can be dialled.
    public var names: Set<String> { inside.withLockedValue { Set($0.listeners.keys) } }

    /// Loses every connection, as when a network breaks. Names stay.
    public func breakConnections() {
        let pairs = inside.withLockedValue { inside in
            defer { inside.connections = [:] }
            return inside.connections.values
        }
        for pair in pairs { pair.lose() }
    }

    /// Ends it all: names are withdrawn, connections lost, and nothing can be bound or dialled any more.
    public func shutDown() {
        let (listeners, diallers) = inside.withLockedValue { inside in
            inside.closed = true
            defer { inside.diallers = [:] }
            return (inside.listeners.values, inside.diallers.values)
        }
        for listener in listeners { listener.close() }
        for dialler in diallers.joined() { dialler.signal() }
        breakConnections()
    }

    private func unbind(_ name: String) {
        inside.withLockedValue { $0.listeners[name] = nil }
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
