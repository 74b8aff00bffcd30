internal import DequeModule
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The decision of a listener about a dialled stream.
package enum Acceptance: Sendable {
    case accepted
    /// The dialer receives this error and tries another offer if there is one.
    case refused(String)
}

/// A service bound on this node. It returns the streams that peers dial.
public final class Listener: Sendable {
    /// The full name of the service, with the environment suffix.
    public let name: String
    /// The address that peers dial.
    public let address: Address

    let visibility: Visibility
    /// Whether the service usually answers a stream at once.
    let answersSoon: Bool
    private let node: NodeCore
    /// Receives streams on the event loop of their link; `nil` if they wait for ``nextStream(deadline:)``.
    private let onStream: (@Sendable (Stream) -> Acceptance)?
    private let storage = NIOLockedValueBox(Storage())

    /// The nodes to which the name is announced.
    enum Visibility: Hashable, Sendable {
        case everybody
        case peer(NodeCore.Way)

        /// The route to the only node that receives the announcement; `nil` if all nodes do.
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
        /// Whether the node, not the owner, has closed the listener.
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

    /// Returns the next stream, in the order of the dials. Waits if there is none.
    ///
    /// - Parameter deadline: the deadline of the wait; `nil` for none.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, or `closed` when the listener is closed;
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
            case .expired: throw AstraNetError(.deadlineExceeded, "no node dialled '\(name)'")
            case .cancelled: throw CancellationError()
            }
        }
    }

    /// The place of a task's wait for a stream.
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

    /// Withdraws the service. Streams that have been dialled can still be taken. After the last one,
    /// ``nextStream(deadline:)`` throws `closed`. Further calls do nothing.
    public func finish() {
        node.unbind(self)
        let waiters = storage.withLockedValue { storage in
            storage.isClosed = true
            defer { storage.waiters = [] }
            return storage.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Withdraws the service and fails the streams that have not been taken. Streams that have been taken go on.
    /// Further calls do nothing.
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

    /// Closes the listener because the node is shut down, or because the route to the only peer that knows the service
    /// is lost.
    func withdraw() {
        let onWithdrawal = storage.withLockedValue { storage -> (@Sendable () -> Void)? in
            guard !storage.isClosed else { return nil }
            storage.isWithdrawn = true
            return storage.onWithdrawal.take()
        }
        close()
        onWithdrawal?()
    }

    /// Sets a closure that is called once when the node closes the listener before its owner does. If the node has
    /// already closed it, `body` is called at once.
    public func whenWithdrawn(_ body: @escaping @Sendable () -> Void) {
        let isWithdrawn = storage.withLockedValue { storage in
            if !storage.isClosed, !storage.isWithdrawn { storage.onWithdrawal = body }
            return storage.isWithdrawn
        }
        if isWithdrawn { body() }
    }

    /// Passes a dialled stream to the listener. Called on the event loop of its link.
    func accept(_ stream: Stream) -> Acceptance {
        let (acceptance, waiter) = storage.withLockedValue { storage -> (Acceptance?, Waiter?) in
            if storage.isClosed { return (.refused("'\(name)' was withdrawn"), nil) }
            if onStream != nil { return (nil, nil) }
            guard storage.accepted.count < node.configuration.maximumBacklog else {
                node.counters.refusedStreams.add(1, ordering: .relaxed)
                return (.refused("\(address) has its maximum number of streams that have not been taken"), nil)
            }
            storage.accepted.append(stream)
            return (.accepted, storage.waiters.popFirst())
        }
        waiter?.resume()
        return acceptance ?? onStream?(stream) ?? .accepted
    }
}

extension Listener.Storage {
    /// The next stream, or an error if the listener is closed; `nil` if the caller must wait.
    fileprivate mutating func next() -> Result<Stream, AstraNetError>? {
        if let stream = accepted.popFirst() { return .success(stream) }
        return isClosed ? .failure(AstraNetError(.closed, "the listener is closed")) : nil
    }
}
