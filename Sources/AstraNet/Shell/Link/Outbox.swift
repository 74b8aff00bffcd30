package import DequeModule
package import NIOCore

/// The queue of outbound work that waits for a link's event loop.
///
/// While the connection is writable, announcements are queued as ops. While it is full, the queue holds only the latest
/// state of each service, so its size is bounded by the number of services. Held announcements are sent in batches when
/// the connection is writable again.
package struct Outbox {
    /// Maximum size of a batch of announcements, in bytes.
    private static let announcementBatchSize = 256 * 1_024

    /// Work for the event loop at the end of a read.
    package enum Item {
        /// Wake the tasks and call the delegate of a stream.
        case wake(MeshStream)
        case run(@Sendable () -> Void)
    }

    /// The work that the event loop takes in one call.
    package struct Outbound {
        /// Whole ops that are sent before all DATA.
        package var control = ByteBuffer()
        /// Dialled and pushed streams whose DIAL must be sent, in order.
        var opening: [MeshStream] = []
        /// Stream wakes and closures that the event loop must run, in order.
        var items: [Item] = []
        /// Streams that have bytes, credit or an end to send.
        var dirty: [MeshStream] = []
        /// Whole ops from other links, in order.
        var forwarded: Deque<Link.Forwarded> = []
        /// Whether announcements are still held. They must be sent before the DATA of the streams in this value.
        var isBehind = false

        package init(
            control: ByteBuffer = ByteBuffer(), opening: [MeshStream] = [], items: [Item] = [],
            dirty: [MeshStream] = [], forwarded: Deque<Link.Forwarded> = [], isBehind: Bool = false
        ) {
            self.control = control
            self.opening = opening
            self.items = items
            self.dirty = dirty
            self.forwarded = forwarded
            self.isBehind = isBehind
        }

        var isEmpty: Bool {
            control.readableBytes == 0 && opening.isEmpty && items.isEmpty && dirty.isEmpty && forwarded.isEmpty
        }

        /// Empties the lists after the event loop has taken their elements.
        mutating func emptyLists() {
            opening.empty()
            items.empty()
            dirty.empty()
            if !forwarded.isEmpty { forwarded = [] }
        }
    }

    package var outbound = Outbound()
    var isClosed = false
    /// Whether a flush is scheduled, or will happen when the current read ends.
    private var isFlushScheduled = false
    /// Whether the queue holds nothing except non-urgent control ops.
    private var hasOnlyNonUrgent = true
    /// Whether the timer that flushes non-urgent ops is running.
    private var isTimerRunning = false
    /// Whether the timer must start if the scheduled flush does not send the non-urgent ops.
    private var isTimerDue = false
    /// Whether new announcements are held: the connection is full, or earlier ones are still held.
    private var isHolding = false
    /// Announcements that are newer than those in ``Outbound/control``.
    private var held = HeldAnnouncements()

    package init() {}

    var isEmpty: Bool { outbound.isEmpty && held.isEmpty }

    /// Whether urgent work is queued.
    var isUrgent: Bool { !hasOnlyNonUrgent && !outbound.isEmpty }

    /// Number of held announcements.
    var heldCount: Int { held.count }

    /// Records that urgent work was queued. Returns whether the caller must schedule a flush.
    package mutating func queuedUrgent() -> Bool {
        hasOnlyNonUrgent = false
        guard !isFlushScheduled else { return false }
        isFlushScheduled = true
        return true
    }

    /// Begins a read. The handler flushes when the read ends, so no flush is scheduled until then.
    package mutating func suppressFlushUntilReadEnds() {
        isFlushScheduled = true
    }

    /// Records that a non-urgent control op was queued. Returns whether the caller must start the flush timer of the
    /// link.
    ///
    /// If a flush is scheduled, the timer starts only if that flush does not send the op. It usually does.
    package mutating func queuedNonUrgent() -> Bool {
        guard hasOnlyNonUrgent, !isTimerRunning else { return false }
        isTimerRunning = !isFlushScheduled
        isTimerDue = isFlushScheduled
        return isTimerRunning
    }

    /// Makes the queued control ops urgent because their delay is over. Returns whether the caller must flush.
    package mutating func flushDelayEnded() -> Bool {
        isTimerRunning = false
        if outbound.control.readableBytes > 0 { hasOnlyNonUrgent = false }
        return !hasOnlyNonUrgent
    }

    /// Makes the control ops urgent that were queued while bytes of streams were sent. The peer may need them together
    /// with those bytes. Returns whether the caller must schedule a flush.
    mutating func expediteControl() -> Bool {
        guard hasOnlyNonUrgent, outbound.control.readableBytes > 0 else { return false }
        return queuedUrgent()
    }

    /// Queues or holds SERVICE or NO_SERVICE.
    package mutating func announce(_ command: Command, _ name: String, at address: Address, to host: HostID) {
        if !isHolding, outbound.control.readableBytes < Self.announcementBatchSize {
            return outbound.control.writeService(command, name, at: address, to: host)
        }
        isHolding = true
        let subject = HeldAnnouncements.Subject(name: name, address: address, destination: host)
        if command == .service { held.offered(subject) } else { held.withdrawn(subject) }
    }

    /// Holds announcements from now on because the connection is full.
    mutating func hold() {
        isHolding = true
    }

    /// Removes and returns the stream wakes and closures that wait for the event loop.
    mutating func takeItems() -> [Item] {
        guard !outbound.items.isEmpty else { return [] }
        var taken: [Item] = []
        swap(&taken, &outbound.items)
        return taken
    }

    /// Takes all queued work and at most one batch of held announcements. Takes nothing if only non-urgent ops are
    /// queued and `isJoined` is `false`.
    ///
    /// - Parameters:
    ///   - taken: receives the work. It is empty before the call, and its memory is reused for later work.
    ///   - releasesHeld: whether the connection is writable, so that a batch of held announcements is taken.
    ///   - isJoined: whether the flush sends something else anyway, so that non-urgent ops go along.
    /// - Returns: whether the caller must start the flush timer for the ops that remain.
    package mutating func take(into taken: inout Outbound, releasesHeld: Bool, isJoined: Bool) -> Bool {
        isFlushScheduled = false
        if hasOnlyNonUrgent, !isJoined, !isHolding { return isTimerDue && queuedNonUrgent() }
        hasOnlyNonUrgent = true
        isTimerDue = false
        swap(&taken, &outbound)
        if isHolding, releasesHeld {
            let end = taken.control.writerIndex + Self.announcementBatchSize
            while taken.control.writerIndex < end, let (subject, isOffered) = held.popFirst() {
                taken.control.writeService(
                    isOffered ? .service : .noService, subject.name, at: subject.address, to: subject.destination)
            }
            isHolding = !held.isEmpty
            taken.isBehind = isHolding
        }
        return false
    }
}

extension Array {
    /// Removes all elements. Keeps the memory for reuse if its capacity is at most 128 elements.
    mutating func empty() {
        guard capacity <= 128 else { return self = [] }
        // For a few elements this loop takes a third of the instructions of `removeAll(keepingCapacity: true)`.
        while popLast() != nil {}
    }
}
