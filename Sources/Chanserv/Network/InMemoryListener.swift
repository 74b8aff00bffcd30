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
                if let next = inside.waiting.popFirst() { return next }
                if inside.closed { throw ConnectionError(.closed, "the listener was closed") }
                return nil
            }
            if let next { return next }
            switch await news.wait(deadline: deadline) {
            case .signalled: continue
            case .expired: throw ConnectionError(.deadlineExceeded, "nobody dialled")
            case .cancelled: throw CancellationError()
            }
        }
    }

    func finish() {
        let isNew = inside.withLockedValue { inside in
            defer { inside.closed = true }
            return !inside.closed
        }
        guard isNew else { return }
        unbind()
        news.signal()
    }

    func close() {
        finish()
        let refused = inside.withLockedValue { inside in
            defer { inside.waiting = [] }
            return inside.waiting
        }
        for connection in refused { connection.fail("refused: the name was withdrawn") }
    }
}
