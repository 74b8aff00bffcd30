internal import Synchronization

/// A limit for the bytes that this node buffers because of its peers. There is one for each link and one for all links.
///
/// It counts received bytes that were not read yet, ops that wait to be forwarded, and partly received ops. It does not
/// count bytes that local writers queue. Those have a limit for each stream.
package final class BufferBudget: Sendable {
    private let limit: Int
    private let parent: BufferBudget?
    private let used = Atomic<Int>(0)

    /// Creates a budget.
    ///
    /// - Parameters:
    ///   - limit: the limit in bytes.
    ///   - parent: a budget in which all bytes of this one count too; `nil` for none.
    init(limit: Int, parent: BufferBudget?) {
        self.limit = limit
        self.parent = parent
    }

    /// Number of reserved bytes.
    package var held: Int { used.load(ordering: .relaxed) }

    /// Reserves `count` bytes. Returns `false` if that exceeds a limit.
    ///
    /// - Parameter isUrgent: whether the bytes belong to ops that must not be dropped. An eighth of the limit is kept
    ///   free for them.
    func take(_ count: Int, isUrgent: Bool = false) -> Bool {
        let after = used.add(count, ordering: .relaxed).newValue
        let bound = isUrgent ? limit : limit - limit / 8
        if after <= bound, parent?.take(count, isUrgent: isUrgent) ?? true { return true }
        used.subtract(count, ordering: .relaxed)
        return false
    }

    /// Reserves `count` bytes of a partly received op in a link's budget.
    ///
    /// The link's own limit is for its streams and does not apply. The limit of all links applies, including the part
    /// that is kept for ops that must not be dropped.
    ///
    /// - Returns: `false` if the bytes exceed the limit of all links.
    func takeReceived(_ count: Int) -> Bool {
        guard parent?.take(count, isUrgent: true) ?? true else { return false }
        used.add(count, ordering: .relaxed)
        return true
    }

    /// Reserves `count` bytes regardless of limits. The caller has closed another link to compensate for them, or they
    /// are within the part of the limit that partly received ops may always use.
    func takeAnyway(_ count: Int) {
        used.add(count, ordering: .relaxed)
        parent?.takeAnyway(count)
    }

    /// Releases `count` bytes.
    func give(_ count: Int) {
        guard count > 0 else { return }
        used.subtract(count, ordering: .relaxed)
        parent?.give(count)
    }
}
