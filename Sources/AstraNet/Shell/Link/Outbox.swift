internal import DequeModule
internal import NIOCore

/// The ops, streams and work that wait for a link's event loop.
///
/// While the connection is writable, announcements are queued as ops. While it is full, they are held in a table with
/// the latest state of each service, so that they cannot take more memory than there are services. They are sent in
/// batches when the connection is writable again.
struct Outbox {
    /// The maximum number of bytes of announcements that are passed to the connection at a time: 256 KiB.
    private static let announcementBatch = 256 * 1_024

    /// Work for the event loop at the end of a read.
    enum Turn {
        /// Wake the tasks and call the delegate of a stream.
        case wake(Stream)
        case run(@Sendable () -> Void)
    }

    /// Everything that the event loop takes at once.
    struct Outbound {
        /// Complete ops that are sent ahead of all DATA.
        var control = ByteBuffer()
        /// Dialled and pushed streams whose DIAL is to be sent, in order.
        var opening: [Stream] = []
        /// Streams whose delegate is to be called, and other work for the event loop, in order.
        var turns: [Turn] = []
        /// Streams with bytes, credit or an ending to send.
        var dirty: [Stream] = []
        /// Complete ops from other links, in order.
        var forwarded: Deque<Link.Forwarded> = []
        /// Whether announcements are still held. They must be sent ahead of all DATA that is taken with this.
        var isBehind = false

        var isEmpty: Bool {
            control.readableBytes == 0 && opening.isEmpty && turns.isEmpty && dirty.isEmpty && forwarded.isEmpty
        }

        /// Empties the lists after the event loop has taken their elements.
        mutating func emptyLists() {
            opening.empty()
            turns.empty()
            dirty.empty()
            if !forwarded.isEmpty { forwarded = [] }
        }
    }

    var outbound = Outbound()
    var isClosed = false
    /// Whether a flush is scheduled on the event loop.
    private var isScheduled = false
    /// Whether the outbox contains only deferred control ops.
    private var containsOnlyDeferred = true
    /// Whether the timer that flushes deferred ops runs.
    private var hasFlushTimer = false
    /// Whether that timer must be started if the deferred ops are not sent by the scheduled flush.
    private var needsFlushTimer = false
    /// Whether announcements are held, because the connection is full or not all of them have been sent since then.
    private var isHolding = false
    /// Held announcements. They are newer than those in ``Outbound/control``.
    private var held = HeldAnnouncements()

    var isEmpty: Bool { outbound.isEmpty && held.isEmpty }

    /// Whether something is queued that is not deferred.
    var isUrgent: Bool { !containsOnlyDeferred && !outbound.isEmpty }

    /// The number of held announcements.
    var heldCount: Int { held.count }

    /// Records that something was queued. Returns whether the caller must schedule a flush.
    mutating func mustTell() -> Bool {
        containsOnlyDeferred = false
        guard !isScheduled else { return false }
        isScheduled = true
        return true
    }

    /// Records that a read has begun. A flush follows at its end, so none need be scheduled.
    mutating func holdUntilReadEnds() {
        isScheduled = true
    }

    /// Records that a deferred control op was queued. Returns whether the caller must start the timer of
    /// ``Link/patience``.
    ///
    /// If a flush is scheduled, that flush decides about the timer, because it usually sends the op.
    mutating func mustWatch() -> Bool {
        guard containsOnlyDeferred, !hasFlushTimer else { return false }
        hasFlushTimer = !isScheduled
        needsFlushTimer = isScheduled
        return hasFlushTimer
    }

    /// Ends the delay of deferred ops. Returns whether there is something to send.
    mutating func patienceIsOver() -> Bool {
        hasFlushTimer = false
        if outbound.control.readableBytes > 0 { containsOnlyDeferred = false }
        return !containsOnlyDeferred
    }

    /// Ends the delay of deferred ops after bytes were sent, because the peer may need these ops together with the
    /// bytes. Returns whether the caller must schedule a flush.
    mutating func patienceIsPointless() -> Bool {
        guard containsOnlyDeferred, outbound.control.readableBytes > 0 else { return false }
        return mustTell()
    }

    /// Queues or holds a SERVICE or NO_SERVICE.
    mutating func announce(_ command: Command, _ name: String, at address: Address, to host: HostID) {
        if !isHolding, outbound.control.readableBytes < Self.announcementBatch {
            return outbound.control.writeService(command, name, at: address, to: host)
        }
        isHolding = true
        let subject = HeldAnnouncements.Subject(name: name, address: address, destination: host)
        if command == .service { held.offered(subject) } else { held.withdrawn(subject) }
    }

    /// Holds announcements from now on, because the connection is full.
    mutating func hold() {
        isHolding = true
    }

    /// Takes the queued work for the event loop.
    mutating func takeTurns() -> [Turn] {
        guard !outbound.turns.isEmpty else { return [] }
        var taken: [Turn] = []
        swap(&taken, &outbound.turns)
        return taken
    }

    /// Takes everything except held announcements. Takes nothing if all of it may wait.
    ///
    /// - Parameters:
    ///   - taken: receives the content. It must be empty, and its memory is used for what is queued next.
    ///   - releasesHeld: whether the connection is writable, so that one batch of held announcements is taken too.
    ///   - isJoined: whether the caller has something else to send, so that deferred ops are sent with it.
    /// - Returns: whether the caller must start the timer for what still waits.
    mutating func take(into taken: inout Outbound, releasesHeld: Bool, isJoined: Bool) -> Bool {
        isScheduled = false
        if containsOnlyDeferred, !isJoined, !isHolding { return needsFlushTimer && mustWatch() }
        containsOnlyDeferred = true
        needsFlushTimer = false
        swap(&taken, &outbound)
        if isHolding, releasesHeld {
            let end = taken.control.writerIndex + Self.announcementBatch
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
    /// Removes all elements. Keeps the memory if it holds at most 128 elements.
    mutating func empty() {
        guard capacity <= 128 else { return self = [] }
        // For few elements this takes a third of the instructions of `removeAll(keepingCapacity: true)`.
        while popLast() != nil {}
    }
}
