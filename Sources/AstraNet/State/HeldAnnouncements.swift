internal import DequeModule

/// The announcements that wait while a link's connection is full.
///
/// It stores the latest state of each service and not the ops. A service that comes and goes while the connection is
/// full leaves nothing behind. So a peer that reads slowly costs one entry for each service, not one for each change.
package struct HeldAnnouncements: Sendable {
    /// A service as it is announced to the peer.
    package struct Subject: Hashable, Sendable {
        package var name: String
        var address: Address
        /// The receiver of the announcement: the peer of the link, or one host behind it.
        var destination: HostID

        package init(name: String, address: Address, destination: HostID) {
            self.name = name
            self.address = address
            self.destination = destination
        }
    }

    private struct Entry {
        var isOffered: Bool
        /// Whether the peer knows an earlier offer, so that it must receive a withdrawal.
        var isKnown: Bool
        var change: UInt64
    }

    private var entries: [Subject: Entry] = [:]
    /// The subjects in the order of their changes. An element whose change differs from the entry's is skipped.
    private var order: Deque<(subject: Subject, change: UInt64)> = []
    private var lastChange: UInt64 = 0

    package init() {}

    package var isEmpty: Bool { entries.isEmpty }

    /// The number of waiting announcements.
    package var count: Int { entries.count }

    /// Records that the service is offered. If it was withdrawn just before, it is announced again, because the peer
    /// may have forgotten it for another reason.
    package mutating func offered(_ subject: Subject) {
        guard let entry = entries[subject] else { return put(subject, isOffered: true, isKnown: false) }
        if !entry.isOffered { put(subject, isOffered: true, isKnown: true) }
    }

    /// Records that the service is withdrawn.
    package mutating func withdrawn(_ subject: Subject) {
        guard let entry = entries[subject] else { return put(subject, isOffered: false, isKnown: true) }
        guard entry.isOffered else { return }
        if entry.isKnown {
            put(subject, isOffered: false, isKnown: true)
        } else {
            entries[subject] = nil
            dropSkipped()
        }
    }

    /// The number of elements in the order, including those to skip.
    package var places: Int { order.count }

    /// Removes and returns the first announcement.
    package mutating func popFirst() -> (subject: Subject, isOffered: Bool)? {
        while let (subject, change) = order.popFirst() {
            guard let entry = entries[subject], entry.change == change else { continue }
            entries[subject] = nil
            if entries.isEmpty { self = HeldAnnouncements() }
            return (subject, entry.isOffered)
        }
        return nil
    }

    private mutating func put(_ subject: Subject, isOffered: Bool, isKnown: Bool) {
        lastChange += 1
        entries[subject] = Entry(isOffered: isOffered, isKnown: isKnown, change: lastChange)
        order.append((subject, lastChange))
        dropSkipped()
    }

    /// Removes skipped elements when there are more of them than of others.
    private mutating func dropSkipped() {
        guard order.count > 2 * entries.count + 64 else { return }
        order.removeAll { entries[$0.subject]?.change != $0.change }
    }
}
