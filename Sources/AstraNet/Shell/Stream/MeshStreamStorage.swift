package import NIOCore

extension MeshStream {
    /// State that every stream has. The order of its properties minimizes memory: a stream takes 120 bytes.
    package struct Storage {
        /// State of the active stream; `nil` while the stream is idle.
        package var active: Active?
        var tuning = WindowTuning()
        package var state: StreamState
        /// Whether the stream is in the link's list of streams that have something to send.
        package var isDirty = false
        /// Whether the stream is in the event loop's list of streams to wake at the end of the read.
        package var isWakeQueued = false
        private var lastWaiterID: UInt32 = 0

        package init(state: StreamState) {
            self.state = state
        }

        /// Returns a new ID for a waiter.
        mutating func nextWaiterID() -> UInt32 {
            lastWaiterID &+= 1
            return lastWaiterID
        }
    }

    /// State of an active stream: buffered bytes, suspended tasks and the delegate.
    ///
    /// It is allocated on first use, so that an idle stream stays small. Most streams of a busy node are idle.
    package struct ActiveState {
        var inbox = ByteBuffer()
        package var outbox = ShortQueue<ByteBuffer>()
        var waiters = Waiters()
        /// A reader's buffer that the stream fills while bytes arrive.
        package var filling: Filling?
        var delegate: (any StreamDelegate)?
        /// Whether a write exceeded the queue limit, so that the delegate is called when writing is possible again.
        var reportsRoom = false
        var onPeerClosed: (@Sendable () -> Void)?
        /// Block of this node's DIAL that is not sent yet, or of a received DIAL that is not accepted yet.
        package var dialContext: DialContext?
        var pushes: PushState?

        /// Removes and returns the queued bytes, which the caller releases outside the lock; `nil` if there are none.
        mutating func takeOutbox() -> ShortQueue<ByteBuffer>? {
            guard !outbox.isEmpty else { return nil }
            var taken = ShortQueue<ByteBuffer>()
            swap(&taken, &outbox)
            return taken
        }

        fileprivate var isIdle: Bool {
            outbox.isEmpty && inbox.readableBytes == 0 && waiters.isEmpty && filling == nil && delegate == nil
                && onPeerClosed == nil && dialContext == nil && pushes == nil
        }
    }

    /// A dial block. It is on the heap because it is large and few streams have one.
    package final class DialContext: Sendable {
        package let block: DialBlock
        /// Deadline from the peer's block, computed at its receipt.
        let deadline: ContinuousClock.Instant?

        init(_ block: DialBlock, deadline: ContinuousClock.Instant? = nil) {
            self.block = block
            self.deadline = deadline
        }
    }

    /// Heap storage for the state of an active stream.
    ///
    /// It belongs to one stream and is used only under that stream's lock, so accesses cannot overlap. The run-time
    /// check for overlapping accesses would cost more than the rest of an access.
    package final class Active {
        @exclusivity(unchecked) package var state = ActiveState()

        /// Whether a delegate or a task waits for received bytes. As a property of ``ActiveState`` it would copy the
        /// state.
        var isReadAwaited: Bool { state.delegate != nil || state.waiters.awaitsBytes }
    }
}

extension MeshStream.Storage {
    /// Returns the state of the active stream. Allocates it if the stream is idle.
    mutating func activate() -> MeshStream.Active {
        if let active { return active }
        let new = MeshStream.Active()
        active = new
        return new
    }

    /// Frees the state if the stream is idle again.
    mutating func deactivateIfIdle() {
        if let active, active.state.isIdle { self.active = nil }
    }

    /// Number of received bytes that were not read.
    var unread: Int { active?.state.inbox.readableBytes ?? 0 }

    /// Whether a writer may continue without waiting.
    var hasCapacity: Bool { state.queued <= MeshStream.writeHighWater }

    /// Removes and returns all unread bytes.
    mutating func takeInbox(_ buffered: BufferBudget) -> ByteBuffer {
        var bytes = ByteBuffer()
        if let active { swap(&bytes, &active.state.inbox) }
        deactivateIfIdle()
        state.took(bytes.readableBytes)
        buffered.give(bytes.readableBytes)
        return bytes
    }

    /// Marks the stream as dirty. Returns whether the caller must queue it with ``Link/markDirty(_:)``.
    package mutating func markDirty() -> Bool {
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

    package mutating func enqueue(_ bytes: ByteBuffer, packingLimit: Int) -> Result<Void, AstraNetError> {
        do throws(AstraNetError) {
            try state.enqueue(bytes.readableBytes)
        } catch {
            return .failure(error)
        }
        guard bytes.readableBytes > 0 else { return .success(()) }
        let active = activate()
        let isSmall = bytes.readableBytes < packingLimit
        if isSmall, active.state.outbox.last?.takesSmall(below: packingLimit) ?? false {
            active.state.outbox.changeLast { _ = $0.writeImmutableBuffer(bytes) }
        } else {
            // A copy of a few bytes does not keep a large buffer in memory, and later bytes can be packed behind it.
            let copies = isSmall && bytes.isOversized(for: packingLimit)
            active.state.outbox.append(copies ? ByteBuffer(copying: bytes) : bytes)
        }
        return .success(())
    }

    /// The peer's answer to this node's DIAL; `nil` before it arrives.
    var opening: Result<Void, any Error>? {
        // The stream may have ended already if a short answer arrived together with the acceptance. The answer can
        // still be read.
        if state.wasAccepted { return .success(()) }
        if let error = state.reading.error { return .failure(error) }
        return state.phase == .ended ? .failure(AstraNetError(.closed, "closed")) : nil
    }
}

extension StreamState.ReadSide {
    package var error: AstraNetError? {
        guard case .failed(let failure) = self else { return nil }
        return failure.error
    }
}

extension ByteBuffer {
    /// Returns whether small writes may be packed behind these bytes.
    ///
    /// `false` for the rest of a large buffer: writing to a shared or full buffer copies all of it.
    fileprivate func takesSmall(below packingLimit: Int) -> Bool {
        readableBytes < packingLimit && !isOversized(for: packingLimit)
    }

    /// Returns whether the buffer's memory is too large to be kept for a few bytes.
    fileprivate func isOversized(for packingLimit: Int) -> Bool { storageCapacity > 4 * packingLimit }
}
