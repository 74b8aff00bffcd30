internal import NIOCore

/// The buffer for a partly received op, and its share of the link's budget. Belongs to the event loop of its link.
///
/// Its variables have no run-time check for overlapping accesses (see ``LinkHandler``). Accesses do not overlap: all of
/// them are made on the event loop, and no other code is called while a variable is changed in place.
final class LinkReader {
    private let link: Link
    @exclusivity(unchecked) private var part = ByteBuffer()
    /// Number of bytes of ``part`` that are reserved in the link's budget.
    @exclusivity(unchecked) private var reserved = 0

    init(_ link: Link) {
        self.link = link
    }

    /// Whether a part of an op is buffered.
    var hasPart: Bool { part.readableBytes > 0 }

    /// Moves the missing bytes of the partly received op from `bytes` to the buffer. Later ops stay in `bytes` without
    /// a copy.
    ///
    /// - Returns: the op if it is whole; otherwise `nil`.
    /// - Throws: ``AstraNetError`` with code `protocolViolation`, or `limitReached` if the node cannot hold more bytes.
    func completeOp(from bytes: inout ByteBuffer, payloadLimit: Int) throws(AstraNetError) -> ByteBuffer? {
        while true {
            let missing = try part.missingOfOp(maximumPayload: payloadLimit)
            guard missing > 0 else { break }
            guard let more = bytes.readSlice(length: min(missing, bytes.readableBytes)), more.readableBytes > 0 else {
                try updateBudget(isSame: true)
                return nil
            }
            part.writeImmutableBuffer(more)
        }
        var op = ByteBuffer()
        swap(&op, &part)
        return op
    }

    /// Keeps the rest of a read, which is a part of an op. Called at the end of each read, even if nothing remains.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached` if the node cannot hold it.
    func keep(_ rest: ByteBuffer) throws(AstraNetError) {
        if rest.readableBytes > 0 {
            // The bytes are copied because a slice would keep the whole read buffer in memory.
            part = link.channel.allocator.buffer(capacity: rest.readableBytes)
            part.writeImmutableBuffer(rest)
        }
        try updateBudget(isSame: false)
    }

    /// Discards the buffer and releases its share of the budget.
    func end() {
        part = ByteBuffer()
        link.partialOp.become(0, now: link.now, isSame: false)
        link.buffered.give(reserved)
        reserved = 0
    }

    /// Adjusts the reserved bytes to the size of the buffer.
    ///
    /// - Parameter isSame: whether the buffer still has a part of the same op as before.
    private func updateBudget(isSame: Bool) throws(AstraNetError) {
        let more = part.readableBytes - reserved
        guard more != 0 || reserved > 0 else { return }
        link.partialOp.become(part.readableBytes, now: link.now, isSame: isSame)
        if more < 0 {
            link.buffered.give(-more)
        } else if !link.buffered.takeReceived(more) {
            guard link.node.freeBuffer(forPartialOpOf: link) else {
                end()
                throw NodeCore.tooManyPartialOps
            }
            link.buffered.takeAnyway(more)
        }
        reserved = part.readableBytes
    }
}
