internal import NIOCore

/// A receiver of stream events, which is called on the event loop of the stream's link.
package protocol StreamDelegate: AnyObject, Sendable {
    /// Handles one or more events: bytes arrived, writing is possible again, the peer accepted or ended the stream, or
    /// the server pushed a source.
    ///
    /// The event loop calls this at the end of a read, after all ops of the read, and without a lock. Several events
    /// lead to one call, so the delegate must inspect the stream.
    func streamChanged(_ stream: MeshStream)
}

extension MeshStream {
    /// State of an active stream: buffered bytes, suspended tasks and the delegate.
    ///
    /// It is allocated on first use, so that an idle stream stays small. Most streams of a busy node are idle.
    struct ActiveState {
        var inbox = ByteBuffer()
        var outbox = ShortQueue<ByteBuffer>()
        var waiters = Waiters()
        /// A reader's buffer that the stream fills while bytes arrive.
        var filling: Filling?
        var delegate: (any StreamDelegate)?
        /// Whether a write exceeded the queue limit, so that the delegate is called when writing is possible again.
        var reportsRoom = false
        var onPeerClosed: (@Sendable () -> Void)?
        /// Block of this node's DIAL that is not sent yet, or of a received DIAL that is not accepted yet.
        var dialContext: DialContext?
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
    final class DialContext: Sendable {
        let block: DialBlock
        /// Deadline from the peer's block, computed at its receipt.
        let deadline: ContinuousClock.Instant?

        init(_ block: DialBlock, deadline: ContinuousClock.Instant? = nil) {
            self.block = block
            self.deadline = deadline
        }
    }

    /// The kinds of waits on a stream.
    enum Wait: Sendable {
        /// Wait for the peer's answer to this node's DIAL.
        case opening
        /// Wait for bytes or the end of the stream.
        case reading
        /// Wait until the reader's buffer is filled or the stream ends.
        case filling
        /// Wait until more bytes may be queued.
        case writing
        /// Wait for bytes, a pushed source or the end of the stream.
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

    /// Heap storage for the state of an active stream.
    ///
    /// It belongs to one stream and is used only under that stream's lock, so accesses cannot overlap. The run-time
    /// check for overlapping accesses would cost more than the rest of an access.
    final class Active {
        @exclusivity(unchecked) var state = ActiveState()

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

}
