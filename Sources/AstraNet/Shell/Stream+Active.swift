internal import NIOCore

/// Receives the events of a stream on the event loop of its link.
package protocol StreamDelegate: AnyObject, Sendable {
    /// Called when bytes have arrived, when more bytes may be queued, when the peer has accepted or ended the stream,
    /// or when a source was pushed.
    ///
    /// The link calls it at the end of a read, after all ops of the read have been processed, and holds no lock.
    /// Several events may cause one call, so the delegate must check the state of the stream.
    func streamChanged(_ stream: Stream)
}

extension Stream {
    /// State of an active stream: buffered bytes, suspended tasks, and the delegate.
    ///
    /// Allocated on first use. This keeps idle streams small, and most streams of a busy node are idle.
    struct ActiveState {
        var inbox = ByteBuffer()
        var outbox = ShortQueue<ByteBuffer>()
        var waiters = Waiters()
        /// The reader's buffer of ``Stream/receive(_:into:deadline:)``, filled as bytes arrive.
        var filling: Filling?
        var delegate: (any StreamDelegate)?
        /// Whether the last write reached the high-water mark, so that the delegate must be called when more bytes may
        /// be queued.
        var reportsRoom = false
        var onPeerGone: (@Sendable () -> Void)?
        /// The block of this node's DIAL, or the block of the peer's DIAL until the stream is accepted.
        var dialContext: DialContext?
        var pushes: PushState?

        /// Removes the queued buffers, which must be released outside the lock. Returns `nil` if there are none.
        mutating func takeOutbox() -> ShortQueue<ByteBuffer>? {
            guard !outbox.isEmpty else { return nil }
            var taken = ShortQueue<ByteBuffer>()
            swap(&taken, &outbox)
            return taken
        }

        fileprivate var isIdle: Bool {
            outbox.isEmpty && inbox.readableBytes == 0 && waiters.isEmpty && filling == nil && delegate == nil
                && onPeerGone == nil && dialContext == nil && pushes == nil
        }
    }

    /// A dial block on the heap, because it is large and few streams have one.
    final class DialContext: Sendable {
        let block: DialBlock
        /// The deadline from the peer's block. It counts from the receipt of the DIAL.
        let deadline: ContinuousClock.Instant?

        init(_ block: DialBlock, deadline: ContinuousClock.Instant? = nil) {
            self.block = block
            self.deadline = deadline
        }
    }

    /// A condition that a task can wait for.
    enum Wait: Sendable {
        /// The peer has answered this node's DIAL.
        case opening
        /// Bytes or the end of file have arrived.
        case reading
        /// The reader's buffer is full.
        case filling
        /// More bytes may be queued.
        case writing
        /// Bytes, a pushed source or the end have arrived.
        case news

        static let all: [Wait] = [.opening, .reading, .filling, .writing, .news]
    }

    /// The suspended tasks of a stream, at most one for each kind of wait.
    struct Waiters {
        private var opening: Waiter?
        private var reading: Waiter?
        private var filling: Waiter?
        private var writing: Waiter?
        private var news: Waiter?

        /// Whether a task waits for received bytes.
        var awaitsBytes: Bool { reading != nil || news != nil }

        var isEmpty: Bool { opening == nil && reading == nil && filling == nil && writing == nil && news == nil }

        subscript(wait: Wait) -> Waiter? {
            get {
                switch wait {
                case .opening: opening
                case .reading: reading
                case .filling: filling
                case .writing: writing
                case .news: news
                }
            }
            set {
                switch wait {
                case .opening: opening = newValue
                case .reading: reading = newValue
                case .filling: filling = newValue
                case .writing: writing = newValue
                case .news: news = newValue
                }
            }
        }
    }

    /// A reference to the state. It belongs to one stream and is accessed under that stream's lock. The exclusivity
    /// check at run time is off, because it can find nothing and costs more than the rest of an access.
    final class Active {
        @exclusivity(unchecked) var state = ActiveState()

        /// Whether a delegate or a task waits for received bytes. It is not a property of the state, because calling
        /// that would copy the state.
        var isReadAwaited: Bool { state.delegate != nil || state.waiters.awaitsBytes }
    }
}

extension Stream.Storage {
    /// Returns the active state. Allocates it if the stream is idle.
    mutating func activate() -> Stream.Active {
        if let active { return active }
        let new = Stream.Active()
        active = new
        return new
    }

    /// Frees the active state if it is empty.
    mutating func deactivateIfIdle() {
        if let active, active.state.isIdle { self.active = nil }
    }

}
