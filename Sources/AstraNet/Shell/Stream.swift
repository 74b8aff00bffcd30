internal import DequeModule
internal import NIOConcurrencyHelpers
public import NIOCore

/// A stream between two nodes: bytes in each direction with flow control, whose directions end separately.
///
/// One task may read while another writes; two reads or two writes at the same time are a programming error. End every
/// stream with ``close()`` or ``fail(_:)``.
public final class Stream: Sendable {
    /// The other end.
    public let remoteAddress: Address
    /// This end.
    public var localAddress: Address { link.node.address(port: localPort) }

    let localPort: UInt32
    let link: Link
    /// Unsafe for the compiler, which does not know that only ``withStorage(_:)`` touches it, under the lock, and `deinit`, when
    /// nobody else has the stream.
    @exclusivity(unchecked) private nonisolated(unsafe) var storage: Storage

    /// Beyond this many queued bytes a writer waits. What is queued waits for credit, and so much of it is enough to go on with
    /// when that comes.
    static let writeHighWater = 32_768
    /// Written buffers smaller than this are packed together.
    private static let packingLimit = 4_096

    /// What every stream has. In the order in which it takes the least memory: with it a stream is 120 bytes.
    struct Storage {
        /// What a stream at rest does without.
        var desk: Desk?
        var tuning = WindowTuning()
        var state: StreamState
        /// On the link's list of streams with something to send.
        var isDirty = false
        /// On the event loop's list of streams whose waiters must be told at the end of the read.
        var isWakeQueued = false
        private var lastWaiterID: UInt32 = 0

        init(state: StreamState) {
            self.state = state
        }

        /// It begins anew after four billion waits; nothing that late knows of the one with the same number.
        mutating func nextWaiterID() -> UInt64 {
            lastWaiterID &+= 1
            return UInt64(lastWaiterID)
        }
    }

    init(state: StreamState, localPort: UInt32, remote: Address, link: Link) {
        self.localPort = localPort
        remoteAddress = remote
        self.link = link
        storage = Storage(state: state)
    }

    deinit {
        link.buffered.give(storage.unread)
    }

    /// Runs `body` on what the lock guards. It may not touch another stream, nor run or drop what is not ours.
    func withStorage<Result>(_ body: (inout Storage) throws -> Result) rethrows -> Result {
        try link.lock(of: self).withLock { try body(&storage) }
    }

    /// Where a name can be dialled that was learnt on this stream.
    var way: NodeCore.Way { NodeCore.Way(host: remoteAddress.host, link: link.id) }

    // MARK: - Opening

    /// Waits until the other side has accepted.
    func opened(deadline: ContinuousClock.Instant) async throws {
        try await wait(
            for: \.opener, deadline: deadline, timeoutMessage: { "\(self.remoteAddress) did not answer the dial" }
        ) { storage in
            storage.opening
        }
    }

    // MARK: - Reading

    /// All the bytes that came since the last read, waiting while there are none; `nil` at the end of file. Taking them
    /// returns their credit to the peer.
    ///
    /// - Parameter deadline: when to give up, `nil` for never.
    /// - Throws: ``AstraNetError`` with code `failedByPeer`, `linkLost` or `protocolViolation` (after all bytes that came
    ///   before), `deadlineExceeded` (the stream stays usable), or `closed`; `CancellationError`.
    public nonisolated(nonsending) func receive(deadline: ContinuousClock.Instant? = nil) async throws -> ByteBuffer? {
        if let bytes = takeAvailable() { return bytes }
        return try await waitToRead(deadline: deadline)
    }

    /// What ``receive(deadline:)`` would return without waiting, `nil` where it would wait, end or throw.
    private func takeAvailable() -> ByteBuffer? {
        let (bytes, needsFlush) = withStorage { storage -> (ByteBuffer?, Bool) in
            guard storage.unread > 0 else { return (nil, false) }
            return (storage.takeInbox(link.buffered), storage.creditIsDue(isDry: false))
        }
        if needsFlush { link.markDirty(self) }
        return bytes
    }

    @inline(never)
    private func waitToRead(deadline: ContinuousClock.Instant?) async throws -> ByteBuffer? {
        if withStorage({ $0.creditIsDue(isDry: true) }) { link.markDirty(self) }
        return try await wait(
            for: \.reader, deadline: deadline, timeoutMessage: { "nothing came from \(self.remoteAddress) in time" }
        ) { storage in
            if storage.unread > 0 { return .success(storage.takeInbox(self.link.buffered)) }
            switch storage.state.reading {
            case .open: return nil
            case .finished: return .success(nil)
            case .failed(let error): return .failure(error)
            }
        }
    }

    // MARK: - Writing

    /// Queues what goes out with the DIAL where both ends can have that, or else as soon as the other side has accepted. Before
    /// the stream is known to its link.
    func queueFirst(_ bytes: ByteBuffer) throws(AstraNetError) {
        guard bytes.readableBytes > 0 else { return }
        let result = withStorage { storage -> Result<Void, AstraNetError> in
            do throws(AstraNetError) {
                try storage.state.enqueue(bytes.readableBytes)
                storage.queue(bytes, packingLimit: Self.packingLimit)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// Queues `bytes`, and waits while more than 32 KiB are queued.
    ///
    /// - Parameter deadline: when to give up waiting, `nil` for never; the bytes stay queued.
    /// - Throws: ``AstraNetError`` with code `closedByPeer`, `failedByPeer`, `linkLost`, `deadlineExceeded` or `closed`;
    ///   `CancellationError`.
    public nonisolated(nonsending) func send(_ bytes: ByteBuffer, deadline: ContinuousClock.Instant? = nil) async throws
    {
        guard bytes.readableBytes > 0 else { return }
        let (hasRoom, needsFlush) = try withStorage { storage in
            try storage.state.enqueue(bytes.readableBytes)
            storage.queue(bytes, packingLimit: Self.packingLimit)
            return (storage.state.queued <= Self.writeHighWater, storage.sendingIsDue())
        }
        if needsFlush { link.markDirty(self) }
        if !hasRoom { try await waitForRoom(deadline: deadline) }
    }

    @inline(never)
    private func waitForRoom(deadline: ContinuousClock.Instant?) async throws {
        try await wait(
            for: \.writer, deadline: deadline, timeoutMessage: { "\(self.remoteAddress) took no bytes in time" }
        ) { storage in
            switch storage.state.writing {
            case .over(let error): return .failure(error)
            case .open, .ending: return storage.state.queued <= Self.writeHighWater ? .success(()) : nil
            }
        }
    }

    // MARK: - Ending

    /// Says that no more bytes come from this end, behind those queued. Reading goes on.
    public func finish() { end(.finish) }

    /// Ends both directions well: the peer reads what was queued, then the end of file. Unread bytes are dropped.
    /// Does nothing on a stream that has ended.
    public func close() { end(.close) }

    /// Ends both directions with a failure: the peer reads what was queued, then an error with this message, of which
    /// at most 1,024 bytes are sent. Does nothing on a stream that has ended.
    public func fail(_ message: String) {
        end(.fail(message: String(decoding: message.utf8.prefix(1_024), as: UTF8.self)))
    }

    /// As ``fail(_:)``, without what is queued: for a peer that does not take its bytes in time.
    public func abort(_ message: String) {
        end(.fail(message: String(decoding: message.utf8.prefix(1_024), as: UTF8.self)), dropsQueued: true)
    }

    private func end(_ ending: StreamState.Ending, dropsQueued: Bool = false) {
        // What it holds is dropped outside the lock.
        var onPeerGone: (@Sendable () -> Void)?
        let (needsFlush, waiters) = withStorage { storage -> (Bool, StreamWaiters) in
            if dropsQueued, case .fail(let message) = ending { storage.state.dropQueued(saying: message) }
            guard storage.state.end(ending) == .flush || dropsQueued else { return (false, StreamWaiters()) }
            if ending != .finish, let desk = storage.desk {
                link.buffered.give(desk.work.inbox.readableBytes)
                desk.work.inbox = ByteBuffer()
                swap(&onPeerGone, &desk.work.onPeerGone)
                if storage.state.queued == 0 { desk.work.outbox.removeAll() }
            }
            return (storage.markDirty(), storage.takeWaiters(link.buffered))
        }
        withExtendedLifetime(onPeerGone) {}
        if needsFlush { link.markDirty(self) }
        waiters.resume()
    }

    /// Calls `body` once, from any thread, when the peer has finished, stopped or failed the stream or the link broke, at
    /// once where that has happened already. ``close()`` and ``fail(_:)`` of this end drop it.
    public func onPeerGone(_ body: @escaping @Sendable () -> Void) {
        var earlier: (@Sendable () -> Void)?
        let callNow = withStorage { storage -> Bool in
            if storage.isEndedHere { return false }
            if storage.state.isPeerGone { return true }
            let desk = storage.atDesk()
            earlier = desk.work.onPeerGone
            desk.work.onPeerGone = body
            return false
        }
        withExtendedLifetime(earlier) {}
        if callNow { body() }
    }

    // MARK: - Waiting

    func wait<Value: Sendable>(
        for slot: WritableKeyPath<Work, Waiter<Value>?> & Sendable, deadline: ContinuousClock.Instant?,
        timeoutMessage: @escaping @Sendable () -> String,
        ready: @escaping @Sendable (inout Storage) -> Result<Value, any Error>?
    ) async throws -> Value {
        let id = withStorage { $0.nextWaiterID() }
        return try await waitForEvent(
            id: id, within: link.deadlines, until: link.deadline(deadline), timeoutMessage: timeoutMessage,
            install: { waiter in
                self.withStorage { storage in
                    if let result = ready(&storage) { return result }
                    let desk = storage.atDesk()
                    precondition(desk.work[keyPath: slot] == nil, "two tasks wait on one direction of a stream")
                    desk.work[keyPath: slot] = waiter
                    return nil
                }
            },
            remove: { id in
                self.withStorage { storage in
                    guard let desk = storage.desk, desk.work[keyPath: slot]?.id == id else { return nil }
                    var waiter: Waiter<Value>?
                    swap(&waiter, &desk.work[keyPath: slot])
                    storage.leaveDesk()
                    return waiter
                }
            })
    }

    // MARK: - The event loop's side

    /// Tells whoever waits what has become of the stream. For the end of a read, when all ops are taken in.
    func wake() {
        let (waiters, onPeerGone, needsFlush) = withStorage { storage in
            storage.isWakeQueued = false
            var onPeerGone: (@Sendable () -> Void)?
            if storage.state.isPeerGone, let desk = storage.desk { swap(&onPeerGone, &desk.work.onPeerGone) }
            let waiters = storage.takeWaiters(link.buffered)
            return (waiters, onPeerGone, storage.creditIsDue(isDry: waiters.read != nil))
        }
        if needsFlush { link.markDirty(self) }
        waiters.resume()
        onPeerGone?()
    }
}

/// The waiters of a stream whose wait is over, each with its answer, to be resumed outside the lock.
struct StreamWaiters {
    var opened: (Waiter<Void>, Result<Void, any Error>)?
    var read: (Waiter<ByteBuffer?>, Result<ByteBuffer?, any Error>)?
    var filled: (Waiter<Void>, Result<Void, any Error>)?
    var written: (Waiter<Void>, Result<Void, any Error>)?

    func resume() {
        if let opened { opened.0.resume(with: opened.1) }
        if let read { read.0.resume(with: read.1) }
        if let filled { filled.0.resume(with: filled.1) }
        if let written { written.0.resume(with: written.1) }
    }
}

extension StreamState.ReadSide {
    var error: AstraNetError? {
        guard case .failed(let error) = self else { return nil }
        return error
    }
}

extension Stream.Storage {
    /// This end closed or failed the stream itself.
    var isEndedHere: Bool {
        if case .ending(let ending) = state.writing { return ending != .finish }
        return state.reading.error?.code == .closed
    }

    /// How many bytes came that nobody has taken.
    var unread: Int { desk?.work.inbox.readableBytes ?? 0 }

    /// Takes all unread bytes.
    mutating func takeInbox(_ buffered: BufferBudget) -> ByteBuffer {
        var bytes = ByteBuffer()
        if let desk { swap(&bytes, &desk.work.inbox) }
        leaveDesk()
        state.took(bytes.readableBytes)
        buffered.give(bytes.readableBytes)
        return bytes
    }

    /// Puts the stream on the dirty list; whether the caller must tell the link.
    mutating func markDirty() -> Bool {
        guard !isDirty else { return false }
        isDirty = true
        return true
    }

    mutating func creditIsDue(isDry: Bool) -> Bool {
        state.owesCredit(isDry: isDry) ? markDirty() : false
    }

    mutating func sendingIsDue() -> Bool {
        state.sendable > 0 ? markDirty() : false
    }

    mutating func queue(_ bytes: ByteBuffer, packingLimit: Int) {
        let desk = atDesk()
        let count = desk.work.outbox.count
        if bytes.readableBytes < packingLimit, count > 0, desk.work.outbox[count - 1].readableBytes < packingLimit {
            desk.work.outbox[count - 1].writeImmutableBuffer(bytes)
        } else {
            desk.work.outbox.append(bytes)
        }
    }

    /// What became of our dial; `nil` while it has no answer.
    var opening: Result<Void, any Error>? {
        // A short answer may have come in one piece with the acceptance: it is there to be read, with its end.
        if state.wasAccepted { return .success(()) }
        if let error = state.reading.error { return .failure(error) }
        return state.phase == .ended ? .failure(AstraNetError(.closed, "closed")) : nil
    }

    /// Takes out the waiters that have an answer now.
    mutating func takeWaiters(_ buffered: BufferBudget) -> StreamWaiters {
        var waiters = StreamWaiters()
        guard let desk else { return waiters }
        if let waiter = desk.work.opener, let result = opening {
            waiters.opened = (waiter, result)
            desk.work.opener = nil
        }
        if let waiter = desk.work.reader {
            if desk.work.inbox.readableBytes > 0 {
                waiters.read = (waiter, .success(takeInbox(buffered)))
            } else if state.reading == .finished {
                waiters.read = (waiter, .success(nil))
            } else if let error = state.reading.error {
                waiters.read = (waiter, .failure(error))
            }
            if waiters.read != nil { desk.work.reader = nil }
        }
        if let waiter = desk.work.filler, let result = filled {
            waiters.filled = (waiter, result)
            desk.work.filler = nil
        }
        if let waiter = desk.work.writer {
            if case .over(let error) = state.writing {
                waiters.written = (waiter, .failure(error))
            } else if case .ending(let ending) = state.writing, ending != .finish {
                waiters.written = (waiter, .failure(AstraNetError(.closed, "this end of the stream is closed")))
            } else if state.queued <= Stream.writeHighWater {
                waiters.written = (waiter, .success(()))
            }
            if waiters.written != nil { desk.work.writer = nil }
        }
        leaveDesk()
        return waiters
    }
}
