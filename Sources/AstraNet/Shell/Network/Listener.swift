internal import DequeModule
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The decision of a listener about a stream.
package enum Acceptance: Sendable {
    case accepted
    /// The listener refuses the stream with this error. The dialer tries another offer if there is one.
    case refused(String)
}

/// A service that is bound on this node. It accepts the streams that other nodes dial.
public final class Listener: Sendable {
    /// Full name of the service, including the environment suffix.
    public let name: String
    /// Address that other nodes dial.
    public let address: Address

    let visibility: Visibility
    /// Whether the service usually answers a stream at once, so that the SYN is sent together with the answer.
    let answersSoon: Bool
    private let node: NodeCore
    /// Handler of new streams, which is called on the event loop of their link; `nil` if streams are queued for
    /// ``nextStream(deadline:)``.
    private let onStream: (@Sendable (MeshStream) -> Acceptance)?
    private let storage = NIOLockedValueBox(Storage())

    /// The nodes to which the name is announced.
    enum Visibility: Hashable, Sendable {
        case allNodes
        case peer(HostLink)

        /// Path to the only node to which the name is announced; `nil` if it is announced to all nodes.
        var hostLink: HostLink? {
            guard case .peer(let hostLink) = self else { return nil }
            return hostLink
        }
    }

    fileprivate struct Storage {
        var accepted = Deque<MeshStream>()
        var waiters = Deque<Waiter>()
        var lastWaiter: UInt32 = 0
        var isClosed = false
        /// Whether the node closed the listener before its owner did.
        var isWithdrawn = false
        var onWithdrawal: (@Sendable () -> Void)?
        var refusal: DialRefusal?
    }

    init(
        name: String, address: Address, visibility: Visibility, answersSoon: Bool, node: NodeCore,
        onStream: (@Sendable (MeshStream) -> Acceptance)?
    ) {
        self.name = name
        self.address = address
        self.visibility = visibility
        self.answersSoon = answersSoon
        self.node = node
        self.onStream = onStream
    }

    /// Returns the next stream in the order of the dials, and waits for one if necessary.
    ///
    /// - Parameter deadline: the time at which the wait ends with an error; `nil` for none.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, or `closed` after the listener was closed;
    ///   `CancellationError`.
    public func nextStream(deadline: ContinuousClock.Instant? = nil) async throws -> MeshStream {
        let instant = deadline.map { node.surroundings.deadline($0, on: node.timers) }
        while true {
            let (result, id) = storage.withLockedValue { storage -> (Result<MeshStream, AstraNetError>?, UInt32) in
                storage.lastWaiter &+= 1
                return (storage.next(), storage.lastWaiter)
            }
            if let result { return try result.get() }
            switch await suspend(in: WaitForStream(listener: self), id: id, within: node.deadlines, until: instant) {
            case .ready, .gone: continue
            case .expired: throw AstraNetError(.deadlineExceeded, "no client dialled '\(name)' in time")
            case .cancelled: throw CancellationError()
            }
        }
    }

    /// The place where a task waits for a stream.
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

    /// Withdraws the service. Streams that were dialled before can still be taken.
    ///
    /// After the last of them ``nextStream(deadline:)`` throws `closed`. Further calls do nothing.
    public func finish() {
        node.directory.unbind(self)
        let waiters = storage.withLockedValue { storage in
            storage.isClosed = true
            defer { storage.waiters = [] }
            return storage.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Withdraws the service and fails the streams that were not taken yet. Streams that were taken continue.
    ///
    /// Further calls do nothing.
    public func close() {
        node.directory.unbind(self)
        let (streams, waiters) = storage.withLockedValue { storage in
            storage.isClosed = true
            defer {
                storage.accepted = []
                storage.waiters = []
                storage.onWithdrawal = nil
                storage.refusal = nil
            }
            return (storage.accepted, storage.waiters)
        }
        for stream in streams { stream.fail("'\(name)' was withdrawn") }
        for waiter in waiters { waiter.resume() }
    }

    /// Closes the listener because the node closes, or because the path to the only host that knows the name is lost.
    func withdraw() {
        let onWithdrawal = storage.withLockedValue { storage -> (@Sendable () -> Void)? in
            guard !storage.isClosed else { return nil }
            storage.isWithdrawn = true
            return storage.onWithdrawal.take()
        }
        close()
        onWithdrawal?()
    }

    /// Calls `body` once when the node closes the listener before its owner does. If that has already happened, the
    /// call is immediate.
    public func whenWithdrawn(_ body: @escaping @Sendable () -> Void) {
        let isWithdrawn = storage.withLockedValue { storage in
            if !storage.isClosed, !storage.isWithdrawn { storage.onWithdrawal = body }
            return storage.isWithdrawn
        }
        if isWithdrawn { body() }
    }

    /// Returns the reason to refuse the DIAL of a stream; `nil` if there is none. It must not change the stream.
    public typealias DialRefusal = @Sendable (MeshStream) -> String?

    /// Calls `body` for each DIAL that is not accepted at once. The text that it returns refuses the DIAL before the
    /// SYN, so that the dialer tries another node.
    ///
    /// It runs on an event loop and must not block. Replaces an earlier one, and is dropped at the close.
    public func refuseDials(_ body: @escaping DialRefusal) {
        storage.withLockedValue { $0.refusal = body }
    }

    /// Returns the reason to refuse a DIAL that is not accepted yet; `nil` if there is none.
    func refusal(of stream: MeshStream) -> String? {
        storage.withLockedValue { $0.refusal }?(stream)
    }

    /// Accepts or refuses a new stream. Called on the event loop of the stream's link.
    func accept(_ stream: MeshStream) -> Acceptance {
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
    /// Returns the next stream, or an error if there will be none; `nil` if the caller must wait.
    fileprivate mutating func next() -> Result<MeshStream, AstraNetError>? {
        if let stream = accepted.popFirst() { return .success(stream) }
        return isClosed ? .failure(AstraNetError(.closed, "the listener is closed")) : nil
    }
}
