internal import DequeModule
internal import NIOConcurrencyHelpers
internal import NIOCore

/// A service bound on this node, from which accepted streams come.
public final class Listener: Sendable {
    /// The service's full name, environment suffix included.
    public let name: String
    /// Where it is dialled.
    public let address: Address

    let visibility: Visibility
    /// Streams that come from it are answered as a rule as soon as they are there.
    let answersSoon: Bool
    private let node: NodeCore
    private let storage = NIOLockedValueBox(Storage())

    /// Who hears of it.
    enum Visibility: Hashable, Sendable {
        case everybody
        case peer(NodeCore.Way)

        /// The only one who hears of it, if so.
        var way: NodeCore.Way? {
            guard case .peer(let way) = self else { return nil }
            return way
        }
    }

    private struct Storage {
        var accepted = Deque<Stream>()
        var waiters = Deque<Waiter<Stream>>()
        var lastWaiter: UInt64 = 0
        var isClosed = false
    }

    init(name: String, address: Address, visibility: Visibility, answersSoon: Bool, node: NodeCore) {
        self.name = name
        self.address = address
        self.visibility = visibility
        self.answersSoon = answersSoon
        self.node = node
    }

    /// The next stream, in the order in which they were dialled.
    ///
    /// - Parameter deadline: when to give up, `nil` for never.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, or `closed` once the listener is closed;
    ///   `CancellationError`.
    public func nextStream(deadline: ContinuousClock.Instant? = nil) async throws -> Stream {
        let id = storage.withLockedValue { storage in
            storage.lastWaiter += 1
            return storage.lastWaiter
        }
        return try await waitForEvent(
            id: id, within: node.deadlines, until: deadline.map { node.surroundings.deadline($0, on: node.timers) },
            timeoutMessage: { "nobody dialled '\(self.name)' in time" },
            install: { (waiter: Waiter<Stream>) in
                self.storage.withLockedValue { storage in
                    if let stream = storage.accepted.popFirst() { return .success(stream) }
                    if storage.isClosed { return .failure(AstraNetError(.closed, "the listener is closed")) }
                    storage.waiters.append(waiter)
                    return nil
                }
            },
            remove: { id in
                self.storage.withLockedValue { storage in
                    guard let index = storage.waiters.firstIndex(where: { $0.id == id }) else { return nil }
                    return storage.waiters.remove(at: index)
                }
            })
    }

    /// Withdraws the service. Streams that were dialled before can still be taken; after the last of them
    /// ``nextStream(deadline:)`` throws `closed`. Repeating it does nothing.
    public func finish() {
        node.unbind(self)
        let waiters = storage.withLockedValue { storage in
            storage.isClosed = true
            defer { storage.waiters = [] }
            return storage.waiters
        }
        for waiter in waiters { waiter.resume(with: .failure(AstraNetError(.closed, "the listener is closed"))) }
    }

    /// Withdraws the service and fails streams that nobody accepted yet. Streams accepted before go on. Repeating it
    /// does nothing.
    public func close() {
        node.unbind(self)
        let (streams, waiters) = storage.withLockedValue { storage in
            storage.isClosed = true
            defer {
                storage.accepted = []
                storage.waiters = []
            }
            return (storage.accepted, storage.waiters)
        }
        for stream in streams { stream.fail("'\(name)' was withdrawn") }
        for waiter in waiters { waiter.resume(with: .failure(AstraNetError(.closed, "the listener is closed"))) }
    }

    /// Takes a stream from a link; `false` when it is closed or its backlog is full.
    func accept(_ stream: Stream) -> Bool {
        let (isTaken, waiter) = storage.withLockedValue { storage -> (Bool, Waiter<Stream>?) in
            if storage.isClosed { return (false, nil) }
            if let waiter = storage.waiters.popFirst() { return (true, waiter) }
            guard storage.accepted.count < node.configuration.maximumBacklog else { return (false, nil) }
            storage.accepted.append(stream)
            return (true, nil)
        }
        waiter?.resume(with: .success(stream))
        return isTaken
    }
}
