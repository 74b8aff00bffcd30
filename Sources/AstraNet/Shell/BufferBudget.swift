internal import Synchronization

/// How many bytes may be held at a time: for one link, and for all of a node's.
///
/// Counts what peers make this node hold: received bytes that nobody has read yet, ops that wait to be forwarded, and what has
/// come of an op whose rest has not. What a writer queues is its own, and bounded for each stream.
final class BufferBudget: Sendable {
    private let limit: Int
    private let parent: BufferBudget?
    private let used = Atomic<Int>(0)

    /// - Parameters:
    ///   - limit: in bytes.
    ///   - parent: a budget that this one is a part of.
    init(limit: Int, parent: BufferBudget?) {
        self.limit = limit
        self.parent = parent
    }

    /// How many bytes are held.
    var held: Int { used.load(ordering: .relaxed) }

    /// `count` more bytes are held; `false`, and nothing changed, where that is beyond the limit.
    ///
    /// - Parameter isUrgent: for what must not be dropped: an eighth of the limit is kept for it.
    func take(_ count: Int, isUrgent: Bool = false) -> Bool {
        let after = used.add(count, ordering: .relaxed).newValue
        let bound = isUrgent ? limit : limit - limit / 8
        if after <= bound, parent?.take(count, isUrgent: isUrgent) ?? true { return true }
        used.subtract(count, ordering: .relaxed)
        return false
    }

    /// `count` more bytes are held that were received already and are no stream's: for a link, whose own limit is that of its
    /// streams, so that only the limit of all may say no, and the little that is kept for what must not be dropped is used.
    ///
    /// - Returns: `false`, and nothing changed, where that is beyond the limit of all.
    func takeReceived(_ count: Int) -> Bool {
        guard parent?.take(count, isUrgent: true) ?? true else { return false }
        used.add(count, ordering: .relaxed)
        return true
    }

    /// As ``takeReceived(_:)``, beyond any limit: for what room is made for elsewhere.
    func takeAnyway(_ count: Int) {
        used.add(count, ordering: .relaxed)
        parent?.takeAnyway(count)
    }

    /// `count` bytes are held no longer.
    func give(_ count: Int) {
        guard count > 0 else { return }
        used.subtract(count, ordering: .relaxed)
        parent?.give(count)
    }
}
