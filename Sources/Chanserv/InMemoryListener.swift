import DequeModule
import NIOConcurrencyHelpers

/// A name bound in an ``InMemoryMultiplexer``.
final class InMemoryListener: ConnectionListener {
    /// How many connections may wait to be accepted.
    private static let backlog = 1024

    private struct Inside {
        var waiting: Deque<InMemoryConnection> = []
        var closed = false
    }

    private let inside = NIOLockedValueBox(Inside())
    private let news = Event()
    private let unbind: @Sendable () -> Void

    init(unbind: @escaping @Sendable () -> Void) {
        self.unbind = unbind
    }

    /// A dialler's connection.
    func offer(_ connection: InMemoryConnection) throws {
        let taken = inside.withLockedValue { inside -> Bool in
            guard !inside.closed, inside.waiting.count < Self.backlog else { return false }
            inside.waiting.append(connection)
            return true
        }
        guard taken else {
            connection.pair.lose()
            throw ConnectionError(.refused, "the name was withdrawn, or too many wait already")
        }
        news.signal()
    }

    func accept(deadline: ContinuousClock.Instant?) async throws -> any Connection {
        while true {
            let next = try inside.withLockedValue { inside -> InMemoryConnection? in
                if inside.closed { throw ConnectionError(.closed, "the listener was closed") }
                return inside.waiting.popFirst()
            }
            if let next { return next }
            switch await news.wait(deadline: deadline) {
            case .signalled: continue
            case .expired: throw ConnectionError(.deadlineExceeded, "nobody dialled")
            case .cancelled: throw CancellationError()
            }
        }
    }

    func close() {
        let refused = inside.withLockedValue { inside in
            defer { inside.waiting = [] }
            guard !inside.closed else { return nil as Deque<InMemoryConnection>? }
            inside.closed = true
            return inside.waiting
        }
        guard let refused else { return }
        unbind()
        news.signal()
        for connection in refused { connection.fail("refused: the name was withdrawn") }
    }
}
