internal import NIOCore

/// Receives the events of a stream on the event loop of its link.
package protocol StreamDelegate: AnyObject, Sendable {
    /// Bytes came, there is room to write again, the peer accepted or ended the stream, or a source was pushed.
    ///
    /// Called at the end of a read, when all its ops have been taken, and with no lock held. Events that come together are
    /// reported once; the delegate looks at the state of the stream.
    func streamChanged(_ stream: Stream)
}

extension Stream {
    /// State of an active stream: buffered bytes, suspended tasks, the delegate.
    ///
    /// Allocated on first use, so that an idle stream stays small: most streams of a busy node are idle.
    struct ActiveState {
        var inbox = ByteBuffer()
        var outbox = ShortQueue<ByteBuffer>()
        var waiters = Waiters()
        /// A reader's buffer that is filled as bytes come.
        var filling: Filling?
        var delegate: (any StreamDelegate)?
        /// A write found no room: the delegate is told when there is some.
        var reportsRoom = false
        var onPeerGone: (@Sendable () -> Void)?
        /// Deadline and tags for our DIAL, or the block of a DIAL that came and is not accepted yet.
        var dialContext: DialContext?
        var pushes: PushState?

        /// Takes out what is queued, to be released outside the lock; `nil` if nothing is.
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

    /// A dial block on the heap: few streams have one, and it is large.
    final class DialContext: Sendable {
        let block: DialBlock
        /// The deadline that the peer's block says, which counts from its receipt.
        let deadline: ContinuousClock.Instant?

        init(_ block: DialBlock, deadline: ContinuousClock.Instant? = nil) {
            self.block = block
            self.deadline = deadline
        }
    }

    /// What a task can wait for.
    enum Wait: Sendable {
        /// The peer's answer to our DIAL.
        case opening
        /// Bytes, or the end of them.
        case reading
        /// A buffer that is full.
        case filling
        /// Room for more bytes.
        case writing
        /// Bytes, a pushed source, or the end.
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

        /// Whether a task wants to know of received bytes.
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

    /// Holds the state. It belongs to one stream and is used under that stream's lock: the compiler's checks at run time would
    /// find nothing, and cost more than the rest of an access.
    final class Active {
        @exclusivity(unchecked) var state = ActiveState()

        /// Whether a delegate or a task wants to know of received bytes. Not a property of the state, which would be copied for it.
        var isReadAwaited: Bool { state.delegate != nil || state.waiters.awaitsBytes }
    }
}

extension Stream.Storage {
    /// The state of the stream while it is active.
    mutating func activate() -> Stream.Active {
        if let active { return active }
        let new = Stream.Active()
        active = new
        return new
    }

    /// Frees the state if nothing is left in it.
    mutating func deactivateIfIdle() {
        if let active, active.state.isIdle { self.active = nil }
    }

}
