internal import NIOCore

/// The received part of an incomplete op, and its share of the buffer budget. Belongs to the event loop of its link.
///
/// The exclusivity checks of its variables are off (see ``LinkHandler``). Accesses do not overlap: all are on the event
/// loop, and no other code is called while a variable is changed in place.
final class LinkReader {
    private let link: Link
    @exclusivity(unchecked) private var part = ByteBuffer()
    /// The number of its bytes that are reserved in the link's budget.
    @exclusivity(unchecked) private var counted = 0

    init(_ link: Link) {
        self.link = link
    }

    /// Whether there is a part of an op.
    var hasPart: Bool { part.readableBytes > 0 }

    /// Moves the missing bytes of the incomplete op from `bytes`, and no more. The ops after it can then be decoded
    /// without a copy.
    ///
    /// - Returns: the complete op; `nil` while bytes are missing.
    /// - Throws: ``AstraNetError`` with code `protocolViolation`, or `limitReached` if the node may not buffer more.
    func join(from bytes: inout ByteBuffer, payloadLimit: Int) throws(AstraNetError) -> ByteBuffer? {
        while true {
            let missing = try part.missingOfOp(maximumPayload: payloadLimit)
            guard missing > 0 else { break }
            guard let more = bytes.readSlice(length: min(missing, bytes.readableBytes)), more.readableBytes > 0 else {
                try count(isSame: true)
                return nil
            }
            part.writeImmutableBuffer(more)
        }
        var op = ByteBuffer()
        swap(&op, &part)
        return op
    }

    /// Keeps the rest of a read. Called once for each read, even if nothing is left.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached` if the node may not buffer it.
    func keep(_ rest: ByteBuffer) throws(AstraNetError) {
        if rest.readableBytes > 0 {
            // A copy, so that the few bytes of an incomplete op do not keep the memory of the whole read.
            part = link.channel.allocator.buffer(capacity: rest.readableBytes)
            part.writeImmutableBuffer(rest)
        }
        try count(isSame: false)
    }

    /// Releases the reserved bytes.
    func end() {
        part = ByteBuffer()
        link.halfOp.become(0, now: link.now, isSame: false)
        link.buffered.give(counted)
        counted = 0
    }

    /// Updates the bytes that are reserved in the link's budget.
    ///
    /// - Parameter isSame: whether the bytes belong to the same op as before.
    private func count(isSame: Bool) throws(AstraNetError) {
        let more = part.readableBytes - counted
        guard more != 0 || counted > 0 else { return }
        link.halfOp.become(part.readableBytes, now: link.now, isSame: isSame)
        if more < 0 {
            link.buffered.give(-more)
        } else if !link.buffered.takeReceived(more) {
            guard link.node.makeRoom(forHalfOpOf: link) else {
                end()
                throw NodeCore.tooManyHalfOps
            }
            link.buffered.takeAnyway(more)
        }
        counted = part.readableBytes
    }
}
