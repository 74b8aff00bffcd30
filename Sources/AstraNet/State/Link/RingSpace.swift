internal import DequeModule

/// Who has which part of a ring of bytes: taken at one end, given back at the other, in the same order.
struct RingSpace: Hashable, Sendable {
    /// In bytes.
    let size: Int
    /// Those that are taken, the oldest first: how many bytes each, with those behind it that were too few for the next.
    private var taken: Deque<Int> = []
    /// Where the next one begins, if it fits there.
    private var end = 0
    /// How many bytes are not taken.
    private var free: Int

    init(size: Int) {
        self.size = size
        free = size
    }

    /// Takes `count` bytes that lie side by side.
    ///
    /// - Returns: where they begin; `nil` where there are not so many.
    mutating func take(_ count: Int) -> Int? {
        guard count > 0 else { return nil }
        let fits = count <= size - end
        // What is left before the ring begins anew is of no use to what is longer.
        let (start, skipped) = fits ? (end, 0) : (0, size - end)
        guard skipped + count <= free else { return nil }
        taken.append(skipped + count)
        free -= skipped + count
        end = start + count
        return start
    }

    /// Gives back the oldest `count` of those that are taken.
    ///
    /// - Returns: whether there are so many.
    mutating func giveBack(_ count: Int) -> Bool {
        guard count <= taken.count else { return false }
        for bytes in taken.prefix(count) { free += bytes }
        taken.removeFirst(count)
        // The whole of it is to be had again, in one piece.
        if taken.isEmpty { end = 0 }
        return true
    }
}
