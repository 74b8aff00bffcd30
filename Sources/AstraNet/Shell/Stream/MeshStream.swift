internal import NIOConcurrencyHelpers
public import NIOCore

/// A byte stream between two nodes, with flow control. Its two directions end separately.
///
/// One task may read while another one writes. Two reads or two writes at the same time are a programming error. End
/// every stream with ``close()`` or ``fail(_:)``.
public final class MeshStream: Sendable {
    /// Address of the stream at the remote node.
    public let remoteAddress: Address
    /// Address of the stream at this node.
    public var localAddress: Address { link.node.address(port: localPort) }

    package let localPort: UInt32
    package let link: Link
    /// State of the stream. It is safe without compiler checks: only ``withStorage(_:)`` accesses it, under the lock,
    /// and `deinit`, when no other reference exists.
    @exclusivity(unchecked) private nonisolated(unsafe) var storage: Storage

    /// Maximum number of queued bytes before a writer must wait (32 KiB).
    ///
    /// Queued bytes wait for credit. This many are enough to continue sending when credit arrives.
    package static let writeHighWater = 32_768
    /// Size below which written buffers are packed together, in bytes (4 KiB).
    private static let packingLimit = 4_096

    init(state: StreamState, localPort: UInt32, remote: Address, link: Link) {
        self.localPort = localPort
        remoteAddress = remote
        self.link = link
        storage = Storage(state: state)
    }

    deinit {
        link.buffered.give(storage.unread)
        if case .receiving(let receiver) = storage.active?.state.pushes { link.pushGrants.give(receiver.reserved) }
    }

    /// Runs `body` on the state while it holds the lock. `body` must not access another stream. It must not call
    /// foreign code or release objects of foreign code.
    @inline(__always)
    package func withStorage<Result>(_ body: (inout Storage) -> Result) -> Result {
        link.locks.withLock(of: self) { body(&storage) }
    }

    /// Path for dialling names that were received on this stream.
    var hostLink: HostLink { HostLink(host: remoteAddress.host, link: link.id) }

    // MARK: - Opening

    /// Waits until the peer has accepted the stream.
    ///
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, or the error that failed the stream;
    ///   `CancellationError`.
    package nonisolated(nonsending) func waitUntilOpen(deadline: ContinuousClock.Instant) async throws {
        try await wait(for: .opening, deadline: deadline) { storage in
            storage.opening
        } timeoutMessage: {
            "\(self.remoteAddress) did not answer the dial"
        }
    }

    // MARK: - Reading

    /// The result of ``takeReceived()``.
    package enum Received: Sendable {
        case bytes(ByteBuffer)
        /// No bytes arrived since the last call.
        case nothing
        /// End of file.
        case finished
        case failed(AstraNetError)
    }

    /// Returns the bytes that arrived since the last call, without waiting. This returns their credit to the peer.
    package func takeReceived() -> Received {
        let (received, needsFlush) = withStorage { storage -> (Received, Bool) in
            if storage.unread > 0 {
                return (.bytes(storage.takeInbox(link.buffered)), storage.creditIsDue(isDry: false))
            }
            switch storage.state.reading {
            case .open: return (.nothing, storage.creditIsDue(isDry: true))
            case .finished: return (.finished, false)
            case .failed(let failure): return (.failed(failure.error), false)
            }
        }
        if needsFlush { link.markDirty(self) }
        return received
    }

    /// Returns the bytes that arrived since the last read, and waits if there are none. This returns their credit to
    /// the peer.
    ///
    /// - Parameter deadline: the time at which the wait ends with an error; `nil` for none.
    /// - Returns: the bytes; `nil` at the end of file.
    /// - Throws: ``AstraNetError`` with code `failedByPeer`, `linkLost` or `protocolViolation` (after all bytes that
    ///   arrived before), `deadlineExceeded` (the stream stays usable), or `closed`; `CancellationError`.
    public nonisolated(nonsending) func receive(deadline: ContinuousClock.Instant? = nil) async throws -> ByteBuffer? {
        switch takeReceived() {
        case .bytes(let bytes): return bytes
        case .finished: return nil
        case .failed(let error): throw error
        case .nothing: return try await waitToRead(deadline: deadline)
        }
    }

    @inline(never)
    private nonisolated(nonsending) func waitToRead(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        try await wait(for: .reading, deadline: deadline) { storage in
            if storage.unread > 0 { return .success(storage.takeInbox(self.link.buffered)) }
            switch storage.state.reading {
            case .open: return nil
            case .finished: return .success(nil)
            case .failed(let failure): return .failure(failure.error)
            }
        } timeoutMessage: {
            "no bytes arrived from \(self.remoteAddress) in time"
        }
    }

    // MARK: - Writing

    /// Queues the first bytes of a dialled stream. The caller must do so before ``Link/open(_:)``.
    ///
    /// The bytes follow the DIAL at once if the stream is opened eagerly (`docs/protocol.md` §4). Otherwise they follow
    /// when the peer has accepted the stream.
    func queueFirst(_ bytes: ByteBuffer) throws(AstraNetError) {
        guard bytes.readableBytes > 0 else { return }
        let result = withStorage { storage in storage.enqueue(bytes, packingLimit: Self.packingLimit) }
        try result.get()
    }

    /// Queues `bytes` without waiting.
    ///
    /// - Returns: whether at most 32 KiB are queued. If not, the delegate is called when they are.
    /// - Throws: the same errors as ``send(_:deadline:)``, except `deadlineExceeded` and `CancellationError`.
    @discardableResult
    package func send(now bytes: ByteBuffer) throws(AstraNetError) -> Bool {
        let (result, hasCapacity, needsFlush) = withStorage { storage -> (Result<Void, AstraNetError>, Bool, Bool) in
            let result = storage.enqueue(bytes, packingLimit: Self.packingLimit)
            guard case .success = result else { return (result, false, false) }
            let hasCapacity = storage.hasCapacity
            if !hasCapacity { storage.active?.state.reportsRoom = true }
            return (result, hasCapacity, storage.sendingIsDue())
        }
        if needsFlush { link.markDirty(self) }
        try result.get()
        return hasCapacity
    }

    /// Queues `bytes`, then waits while more than 32 KiB are queued.
    ///
    /// - Parameter deadline: the time at which the wait ends with an error; `nil` for none. The bytes stay queued.
    /// - Throws: ``AstraNetError`` with code `closedByPeer`, `failedByPeer`, `linkLost`, `deadlineExceeded` or
    ///   `closed`; `CancellationError`.
    public nonisolated(nonsending) func send(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant? = nil) async throws
    {
        guard bytes.readableBytes > 0 else { return }
        if try !send(now: bytes) { try await waitUntilCapacity(deadline: deadline) }
    }

    /// Waits until at most 32 KiB are queued.
    @inline(never)
    package nonisolated(nonsending) func waitUntilCapacity(deadline: ContinuousClock.Instant?) async throws {
        try await wait(for: .writing, deadline: deadline) { storage -> Result<Void, any Error>? in
            switch storage.state.writing {
            case .over(let failure): return .failure(failure.error)
            case .ending(let ending) where ending != .finish:
                return .failure(StreamState.Failure.closedHere.error)
            case .open, .ending: return storage.hasCapacity ? .success(()) : nil
            }
        } timeoutMessage: {
            "\(self.remoteAddress) did not accept the sent bytes in time"
        }
    }

    // MARK: - Ending

    /// Ends the sending direction after the queued bytes. Reading is still possible.
    public func finish() { end(.finish) }

    /// Ends both directions without an error. The peer reads the queued bytes, then the end of file.
    ///
    /// Unread bytes are dropped. Pushed sources that were not taken are declined. Does nothing on a stream that has
    /// ended.
    public func close() { end(.close) }

    /// Ends both directions with a failure. The peer reads the queued bytes, then an error with this message.
    ///
    /// At most 1,024 bytes of the message are sent. Does nothing on a stream that has ended.
    public func fail(_ message: String) {
        end(.fail(message: String(decoding: message.utf8.prefix(1_024), as: UTF8.self)))
    }

    /// Ends both directions with a failure and drops the queued bytes, for a peer that does not read its bytes in time.
    public func abort(_ message: String) {
        end(.fail(message: String(decoding: message.utf8.prefix(1_024), as: UTF8.self)), dropsQueued: true)
    }

    private func end(_ ending: StreamState.Ending, dropsQueued: Bool = false) {
        // The contents of the stream are released outside the lock.
        var dropped = Dropped()
        let (needsFlush, waiters) = withStorage { storage -> (Bool, WaiterList) in
            if ending != .finish {
                if let receiver = storage.takeReceiver() {
                    dropped.offered = receiver.offered
                    link.pushGrants.give(receiver.reserved)
                }
            }
            if dropsQueued, case .fail(let message) = ending { storage.state.dropQueued(saying: message) }
            guard storage.state.end(ending) == .flush || dropsQueued else { return (false, WaiterList()) }
            if ending != .finish, let active = storage.active {
                if active.state.inbox.readableBytes > 0 {
                    link.buffered.give(active.state.inbox.readableBytes)
                    active.state.inbox = ByteBuffer()
                }
                swap(&dropped.onPeerClosed, &active.state.onPeerClosed)
                // The delegate of a pushed source stays: the client's answer is still to be reported.
                if storage.state.offer != .made { swap(&dropped.delegate, &active.state.delegate) }
                if storage.state.queued == 0 { dropped.outbox = active.state.takeOutbox() }
            }
            return (storage.markDirty(), storage.takeWaiters())
        }
        while let stream = dropped.offered.popFirst() { stream.decline() }
        if needsFlush { link.markDirty(self) }
        waiters.resume()
        withExtendedLifetime(dropped) {}
    }

    /// Calls `body` once, on any thread, when the peer has finished, stopped or failed the stream, or the link is lost.
    ///
    /// If that has already happened, the call is immediate. ``close()`` and ``fail(_:)`` remove `body` without a call.
    public func onPeerClosed(_ body: @escaping @Sendable () -> Void) {
        var earlier: (@Sendable () -> Void)?
        let callNow = withStorage { storage -> Bool in
            if storage.state.isClosedHere { return false }
            if storage.state.isPeerClosed { return true }
            let active = storage.activate()
            earlier = active.state.onPeerClosed
            active.state.onPeerClosed = body
            return false
        }
        withExtendedLifetime(earlier) {}
        if callNow { body() }
    }

    /// Whether the peer has finished, stopped or failed the stream, or the link is lost. `false` after this node has
    /// closed or failed the stream.
    public var isPeerClosed: Bool { withStorage { $0.state.isPeerClosed && !$0.state.isClosedHere } }

    // MARK: - Delegate

    /// Sets the delegate, which receives events until this node closes or fails the stream. The stream retains it until
    /// then.
    ///
    /// - Parameter delegate: the delegate; `nil` to remove it.
    package func setDelegate(_ delegate: (any StreamDelegate)?) {
        var delegate = delegate
        withStorage { storage in
            // An ended stream has no more events. The caller reads what has arrived.
            guard delegate == nil || !storage.state.isClosedHere && storage.state.phase != .ended else { return }
            guard delegate != nil || storage.active != nil else { return }
            // The previous delegate is released outside the lock.
            swap(&delegate, &storage.activate().state.delegate)
            storage.deactivateIfIdle()
        }
        withExtendedLifetime(delegate) {}
    }

    /// Whether the peer has answered this node's DIAL, or the stream has failed.
    public var isAnswered: Bool { withStorage { $0.opening != nil } }

    /// Schedules a call of the delegate on the event loop of the link. May be called on any thread.
    public func callDelegateSoon() {
        if withStorage({ $0.queueWake() }) { link.wakeSoon(self) }
    }

    /// Whether the caller runs on the event loop of the link.
    public var isOnNetworkThread: Bool { link.eventLoop.inEventLoop }

    /// Schedules `body` on the event loop of the link, in order with the delegate calls of its streams.
    public func runSoon(_ body: @escaping @Sendable () -> Void) { link.runSoon(body) }

    /// Current time on the node's clock.
    package var now: ContinuousClock.Instant { link.node.surroundings.now() }

    /// Whether the remote host is the peer of the link and has announced that it understands ERR.
    package var understandsErrors: Bool { link.can(.refuse, with: remoteAddress.host) }

    /// `ip:port` of the peer on the link; empty if the link has no such address.
    package var peerSocketAddress: String { link.peerSocketAddress.withLockedValue { $0 } }

    // MARK: - Waiting

    /// Waits until `ready` returns a result. `ready` runs under the stream's lock.
    nonisolated(nonsending) func wait<Value>(
        for kind: Wait, deadline: ContinuousClock.Instant?,
        ready: (inout Storage) -> Result<Value, any Error>?, timeoutMessage: () -> String
    ) async throws -> Value {
        while true {
            let (result, id) = withStorage { storage -> (Result<Value, any Error>?, UInt32) in
                (ready(&storage), storage.nextWaiterID())
            }
            if let result { return try result.get() }
            let place = StreamWaitPlace(stream: self, kind: kind)
            switch await suspend(in: place, id: id, within: link.deadlines, until: link.deadline(deadline)) {
            case .ready, .gone: continue
            case .expired: throw AstraNetError(.deadlineExceeded, timeoutMessage())
            case .cancelled: throw CancellationError()
            }
        }
    }

    // MARK: - Calls by the event loop

    /// Resumes the waiting tasks and calls the delegate. The event loop calls this at the end of a read, after all ops
    /// of the read.
    func wake() {
        let (waiters, onPeerClosed, delegate, needsFlush) = withStorage { storage in
            storage.isWakeQueued = false
            var onPeerClosed: (@Sendable () -> Void)?
            if storage.state.isPeerClosed, let active = storage.active {
                swap(&onPeerClosed, &active.state.onPeerClosed)
            }
            let delegate = storage.active?.state.delegate
            if storage.state.phase == .ended, let active = storage.active {
                // An ended stream has no more events, so this is the delegate's last call.
                active.state.delegate = nil
            }
            let waiters = storage.takeWaiters()
            return (waiters, onPeerClosed, delegate, storage.creditIsDue(isDry: waiters.hasReader))
        }
        if needsFlush { link.markDirty(self) }
        waiters.resume()
        onPeerClosed?()
        delegate?.streamChanged(self)
    }

    /// Contents of an ended stream that are released outside the lock.
    private struct Dropped {
        var onPeerClosed: (@Sendable () -> Void)?
        var delegate: (any StreamDelegate)?
        var outbox: ShortQueue<ByteBuffer>?
        var offered = ShortQueue<MeshStream>()
    }
}
