internal import DequeModule

/// An allocator for a ring of bytes. Blocks are freed in the order of their allocation.
package struct RingSpace: Hashable, Sendable {
    /// The size of the ring in bytes.
    package let size: Int
    /// The sizes of the allocated blocks, oldest first. A size includes the bytes before the block that were skipped at
    /// the end of the ring.
    private var blocks: Deque<Int> = []
    /// The offset at which the next block begins if it fits there.
    private var end = 0
    /// The number of free bytes.
    private var free: Int

    package init(size: Int) {
        self.size = size
        free = size
    }

    /// Allocates `count` contiguous bytes.
    ///
    /// - Returns: their offset; `nil` if there is not enough free space.
    package mutating func take(_ count: Int) -> Int? {
        guard count > 0 else { return nil }
        let fits = count <= size - end
        // A block does not wrap around. If it does not fit before the end of the ring, these bytes are skipped.
        let (start, skipped) = fits ? (end, 0) : (0, size - end)
        guard skipped + count <= free else { return nil }
        blocks.append(skipped + count)
        free -= skipped + count
        end = start + count
        return start
    }

    /// Frees the oldest `count` blocks.
    ///
    /// - Returns: `false` if there are fewer blocks.
    package mutating func giveBack(_ count: Int) -> Bool {
        guard count <= blocks.count else { return false }
        for bytes in blocks.prefix(count) { free += bytes }
        blocks.removeFirst(count)
        // The ring is empty, so the next block may use all of it in one piece.
        if blocks.isEmpty { end = 0 }
        return true
    }
}
