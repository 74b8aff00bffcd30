internal import DequeModule

/// What a link's peer is still to be told of services, while its connection takes no more.
///
/// Kept as what is the case and not as ops: each name at each address at most once. A service that comes and goes meanwhile
/// leaves nothing behind, so that a peer which reads slowly costs as many entries as there are services, and not as many as
/// there were changes.
struct HeldAnnouncements: Sendable {
    /// A service as the peer is told of it.
    struct Subject: Hashable, Sendable {
        var name: String
        var address: Address
        /// Whom the announcement is for: whoever is at the other end, or one host behind it.
        var destination: HostID
    }

    private struct Entry {
        var isOffered: Bool
        /// The peer heard of an earlier offer, and so must hear if there is none in the end.
        var isKnown: Bool
        var place: UInt64
    }

    private var entries: [Subject: Entry] = [:]
    /// The subjects in the order in which they changed; those whose place is another one by now are skipped.
    private var order: Deque<(subject: Subject, place: UInt64)> = []
    private var lastPlace: UInt64 = 0

    var isEmpty: Bool { entries.isEmpty }

    /// How many there are.
    var count: Int { entries.count }

    /// The service is offered. One that was withdrawn just before is announced again: the peer may have forgotten it in between
    /// for another reason.
    mutating func offered(_ subject: Subject) {
        guard let entry = entries[subject] else { return put(subject, isOffered: true, isKnown: false) }
        if !entry.isOffered { put(subject, isOffered: true, isKnown: true) }
    }

    /// The service is offered no more.
    mutating func withdrawn(_ subject: Subject) {
        guard let entry = entries[subject] else { return put(subject, isOffered: false, isKnown: true) }
        guard entry.isOffered else { return }
        if entry.isKnown {
            put(subject, isOffered: false, isKnown: true)
        } else {
            entries[subject] = nil
            dropSkipped()
        }
    }

    /// How many places are remembered, those to skip included.
    var places: Int { order.count }

    /// Takes out the announcement that is to be made first.
    mutating func popFirst() -> (subject: Subject, isOffered: Bool)? {
        while let (subject, place) = order.popFirst() {
            guard let entry = entries[subject], entry.place == place else { continue }
            entries[subject] = nil
            if entries.isEmpty { self = HeldAnnouncements() }
            return (subject, entry.isOffered)
        }
        return nil
    }

    private mutating func put(_ subject: Subject, isOffered: Bool, isKnown: Bool) {
        lastPlace += 1
        entries[subject] = Entry(isOffered: isOffered, isKnown: isKnown, place: lastPlace)
        order.append((subject, lastPlace))
        dropSkipped()
    }

    /// What is skipped must not become more than what is not.
    private mutating func dropSkipped() {
        guard order.count > 2 * entries.count + 64 else { return }
        order.removeAll { entries[$0.subject]?.place != $0.place }
    }
}
