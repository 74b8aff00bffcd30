internal import DequeModule
internal import NIOCore

/// What waits for a link's event loop to be sent.
///
/// Announcements are ops like others for as long as the connection takes them. While it takes no more they are held as what the
/// peer is to hear in the end, which cannot grow beyond the number of services, and leave in pieces once it takes more.
struct Outbox {
    /// So many bytes of announcements go to the connection at once.
    private static let announcementBatch = 256 * 1_024

    /// Work for the event loop at the end of a read.
    enum Turn {
        /// Wake the tasks and call the delegate of a stream.
        case wake(Stream)
        case run(@Sendable () -> Void)
    }

    /// What the event loop takes at once.
    struct Outbound {
        /// Whole ops that go ahead of all DATA.
        var control = ByteBuffer()
        /// Dialled and pushed streams whose DIAL must go out, in their order.
        var opening: [Stream] = []
        /// Streams whose delegate is to be called, and other work for the event loop.
        var turns: [Turn] = []
        /// Streams with bytes, credit or an ending to send.
        var dirty: [Stream] = []
        /// Whole ops from other links, in their order.
        var forwarded: Deque<Link.Forwarded> = []
        /// Some announcements are still held: they go ahead of all DATA that is taken with this.
        var isBehind = false

        var isEmpty: Bool {
            control.readableBytes == 0 && opening.isEmpty && turns.isEmpty && dirty.isEmpty && forwarded.isEmpty
        }

        /// Empties the lists of streams and work, after the event loop has taken what was in them.
        mutating func emptyLists() {
            opening.empty()
            turns.empty()
            dirty.empty()
            if !forwarded.isEmpty { forwarded = [] }
        }
    }

    var outbound = Outbound()
    var isClosed = false
    /// The event loop has been told.
    private var isScheduled = false
    /// There is nothing but control ops that wait for others to leave with.
    private var isDeferred = true
    /// The timer runs that ends their wait.
    private var hasFlushTimer = false
    /// The timer is to be started if they do not leave when the event loop looks at them next.
    private var needsFlushTimer = false
    /// Announcements are held: the connection takes no more, or what was held is not all on its way yet.
    private var isHolding = false
    /// Later than those in ``Outbound/control``.
    private var held = HeldAnnouncements()

    var isEmpty: Bool { outbound.isEmpty && held.isEmpty }

    /// Whether there is something that does not wait for others to leave with.
    var isUrgent: Bool { !isDeferred && !outbound.isEmpty }

    /// How many announcements are held.
    var heldCount: Int { held.count }

    /// Something was put in. Whether the event loop must be told.
    mutating func mustTell() -> Bool {
        isDeferred = false
        guard !isScheduled else { return false }
        isScheduled = true
        return true
    }

    /// A read has begun: everything leaves at its end, and the event loop need not be told.
    mutating func holdUntilReadEnds() {
        isScheduled = true
    }

    /// A control op was put in that may wait for others to leave with. Returns whether the caller must start the timer that ends
    /// the wait (``Link/patience``). While the event loop is told, it decides that when it has looked at what there is: as a rule
    /// the op leaves then.
    mutating func mustWatch() -> Bool {
        guard isDeferred, !hasFlushTimer else { return false }
        hasFlushTimer = !isScheduled
        needsFlushTimer = isScheduled
        return hasFlushTimer
    }

    /// What waited has waited long enough. Whether there is something to send.
    mutating func patienceIsOver() -> Bool {
        hasFlushTimer = false
        if outbound.control.readableBytes > 0 { isDeferred = false }
        return !isDeferred
    }

    /// Bytes have left, and a control op was put in meanwhile that may have to be known with them. Whether the event loop must be
    /// told.
    mutating func patienceIsPointless() -> Bool {
        guard isDeferred, outbound.control.readableBytes > 0 else { return false }
        return mustTell()
    }

    /// SERVICE or NO_SERVICE.
    mutating func announce(_ command: Command, _ name: String, at address: Address, to host: HostID) {
        if !isHolding, outbound.control.readableBytes < Self.announcementBatch {
            return outbound.control.writeService(command, name, at: address, to: host)
        }
        isHolding = true
        let subject = HeldAnnouncements.Subject(name: name, address: address, destination: host)
        if command == .service { held.offered(subject) } else { held.withdrawn(subject) }
    }

    /// The connection takes no more.
    mutating func hold() {
        isHolding = true
    }

    /// Takes the work for the event loop.
    mutating func takeTurns() -> [Turn] {
        guard !outbound.turns.isEmpty else { return [] }
        var taken: [Turn] = []
        swap(&taken, &outbound.turns)
        return taken
    }

    /// Takes all there is, but for held announcements, and nothing where all of it may wait.
    ///
    /// - Parameters:
    ///   - taken: gets what is taken. It is empty, and its memory is used for what is put in from now on.
    ///   - releasesHeld: whether the connection takes more: then as many of those as go to it at once come along.
    ///   - isJoined: whether there is something else to leave with.
    /// - Returns: whether the caller must start the timer for what still waits.
    mutating func take(into taken: inout Outbound, releasesHeld: Bool, isJoined: Bool) -> Bool {
        isScheduled = false
        if isDeferred, !isJoined, !isHolding { return needsFlushTimer && mustWatch() }
        isDeferred = true
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
    /// Removes all elements. Keeps the memory for the next round if it holds at most 128 elements.
    mutating func empty() {
        guard capacity <= 128 else { return self = [] }
        // For a few elements this takes a third of the instructions of `removeAll(keepingCapacity: true)`.
        while popLast() != nil {}
    }
}
