internal import Synchronization

/// A limit for the number of bytes that are buffered for one link, or for all links of a node.
///
/// It counts the bytes that peers make this node buffer: received bytes that have not been read, ops to be forwarded,
/// and the received part of incomplete ops. It does not count the bytes that writers queue, which are limited for each
/// stream.
final class BufferBudget: Sendable {
    private let limit: Int
    private let parent: BufferBudget?
    private let used = Atomic<Int>(0)

    /// - Parameters:
    ///   - limit: the maximum number of bytes.
    ///   - parent: a larger budget that contains this one.
    init(limit: Int, parent: BufferBudget?) {
        self.limit = limit
        self.parent = parent
    }

    /// The number of buffered bytes.
    var held: Int { used.load(ordering: .relaxed) }

    /// Reserves `count` bytes. Returns `false` and changes nothing if they exceed the limit.
    ///
    /// - Parameter isUrgent: whether the bytes may use the last eighth of the limit. It is reserved for bytes that must
    ///   not be dropped.
    func take(_ count: Int, isUrgent: Bool = false) -> Bool {
        let after = used.add(count, ordering: .relaxed).newValue
        let bound = isUrgent ? limit : limit - limit / 8
        if after <= bound, parent?.take(count, isUrgent: isUrgent) ?? true { return true }
        used.subtract(count, ordering: .relaxed)
        return false
    }

    /// Reserves `count` bytes that a link has received and that belong to no stream.
    ///
    /// They may exceed the link's own limit, which is for its streams. They may use the last eighth of the limit of all
    /// links.
    ///
    /// - Returns: `false`, with nothing changed, if they exceed the limit of all links.
    func takeReceived(_ count: Int) -> Bool {
        guard parent?.take(count, isUrgent: true) ?? true else { return false }
        used.add(count, ordering: .relaxed)
        return true
    }

    /// Reserves `count` bytes as ``takeReceived(_:)`` does, without any limit. The caller frees other bytes instead.
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
