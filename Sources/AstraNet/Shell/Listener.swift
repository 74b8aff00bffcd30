internal import DequeModule
internal import NIOConcurrencyHelpers
internal import NIOCore

/// What a listener does with a stream.
package enum Acceptance: Sendable {
    case accepted
    /// The dialer gets this error, and tries another offer if there is one.
    case refused(String)
}

/// A service bound on this node, from which accepted streams come.
public final class Listener: Sendable {
    /// The service's full name, environment suffix included.
    public let name: String
    /// Where it is dialled.
    public let address: Address

    let visibility: Visibility
    /// Whether its streams are answered as a rule as soon as they are there.
    let answersSoon: Bool
    private let node: NodeCore
    /// Takes streams on the event loop of their link; `nil` if they wait for ``nextStream(deadline:)``.
    private let onStream: (@Sendable (Stream) -> Acceptance)?
    private let storage = NIOLockedValueBox(Storage())

    /// Which nodes the name is announced to.
    enum Visibility: Hashable, Sendable {
        case everybody
        case peer(NodeCore.Way)

        /// The only node that it is announced to, if there is one.
        var way: NodeCore.Way? {
            guard case .peer(let way) = self else { return nil }
            return way
        }
    }

    fileprivate struct Storage {
        var accepted = Deque<Stream>()
        var waiters = Deque<Waiter>()
        var lastWaiter: UInt32 = 0
        var isClosed = false
        /// The node has closed the listener, not its owner.
        var isWithdrawn = false
        var onWithdrawal: (@Sendable () -> Void)?
    }

    init(
        name: String, address: Address, visibility: Visibility, answersSoon: Bool, node: NodeCore,
        onStream: (@Sendable (Stream) -> Acceptance)?
    ) {
        self.name = name
        self.address = address
        self.visibility = visibility
        self.answersSoon = answersSoon
        self.node = node
        self.onStream = onStream
    }

    /// Returns the next stream, in the order in which they were dialled.
    ///
    /// - Parameter deadline: when to give up, `nil` for never.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, or `closed` once the listener is closed;
    ///   `CancellationError`.
    public func nextStream(deadline: ContinuousClock.Instant? = nil) async throws -> Stream {
        let instant = deadline.map { node.surroundings.deadline($0, on: node.timers) }
        while true {
            let (result, id) = storage.withLockedValue { storage -> (Result<Stream, AstraNetError>?, UInt32) in
                storage.lastWaiter &+= 1
                return (storage.next(), storage.lastWaiter)
            }
            if let result { return try result.get() }
            switch await suspend(in: WaitForStream(listener: self), id: id, within: node.deadlines, until: instant) {
            case .ready, .gone: continue
            case .expired: throw AstraNetError(.deadlineExceeded, "nobody dialled '\(name)' in time")
            case .cancelled: throw CancellationError()
            }
        }
    }

    /// Where a task waits for a stream.
    private struct WaitForStream: WaitPlace {
        let listener: Listener

        func put(_ waiter: Waiter) -> Bool {
            listener.storage.withLockedValue { storage in
                guard storage.accepted.isEmpty, !storage.isClosed else { return false }
                storage.waiters.append(waiter)
                return true
            }
        }

        func takeWaiter(_ id: UInt32) -> Waiter? {
            listener.storage.withLockedValue { storage in
                guard let index = storage.waiters.firstIndex(where: { $0.id == id }) else { return nil }
                return storage.waiters.remove(at: index)
            }
        }
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
        for waiter in waiters { waiter.resume() }
    }

    /// Withdraws the service and fails streams that were not taken yet. Streams taken before go on. Repeating it does
    /// nothing.
    public func close() {
        node.unbind(self)
        let (streams, waiters) = storage.withLockedValue { storage in
            storage.isClosed = true
            defer {
                storage.accepted = []
                storage.waiters = []
                storage.onWithdrawal = nil
            }
            return (storage.accepted, storage.waiters)
        }
        for stream in streams { stream.fail("'\(name)' was withdrawn") }
        for waiter in waiters { waiter.resume() }
    }

    /// Closes the listener because the node is shut down, or because the way to the only peer that knows it is gone.
    func withdraw() {
        let onWithdrawal = storage.withLockedValue { storage -> (@Sendable () -> Void)? in
            guard !storage.isClosed else { return nil }
            storage.isWithdrawn = true
            return storage.onWithdrawal.take()
        }
        close()
        onWithdrawal?()
    }

    /// Calls `body` once when the node closes the listener before its owner does; at once if it has done so.
    public func whenWithdrawn(_ body: @escaping @Sendable () -> Void) {
        let isWithdrawn = storage.withLockedValue { storage in
            if !storage.isClosed, !storage.isWithdrawn { storage.onWithdrawal = body }
            return storage.isWithdrawn
        }
        if isWithdrawn { body() }
    }

    /// Takes a stream from a link, on its event loop.
    func accept(_ stream: Stream) -> Acceptance {
        let (acceptance, waiter) = storage.withLockedValue { storage -> (Acceptance?, Waiter?) in
            if storage.isClosed { return (.refused("'\(name)' was withdrawn"), nil) }
            if onStream != nil { return (nil, nil) }
            guard storage.accepted.count < node.configuration.maximumBacklog else {
                node.counters.refusedStreams.add(1, ordering: .relaxed)
                return (.refused("\(address) has as many streams as it may have that were not taken yet"), nil)
            }
            storage.accepted.append(stream)
            return (.accepted, storage.waiters.popFirst())
        }
        waiter?.resume()
        return acceptance ?? onStream?(stream) ?? .accepted
    }
}

extension Listener.Storage {
    /// The next stream, or why there will be none; `nil` to wait.
    fileprivate mutating func next() -> Result<Stream, AstraNetError>? {
        if let stream = accepted.popFirst() { return .success(stream) }
        return isClosed ? .failure(AstraNetError(.closed, "the listener is closed")) : nil
    }
}
