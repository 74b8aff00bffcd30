internal import NIOCore

/// The part of an op whose rest has not come, and what the node counts of it. Belongs to the event loop of its link.
///
/// Its variables are exempt from the run-time check for overlapping accesses (see ``LinkHandler``). No accesses overlap: all are
/// made on the event loop, and no other code is called while one of them is changed in place.
final class LinkReader {
    private let link: Link
    @exclusivity(unchecked) private var part = ByteBuffer()
    /// How many bytes of it the link's budget holds.
    @exclusivity(unchecked) private var counted = 0

    init(_ link: Link) {
        self.link = link
    }

    /// Whether a part of an op has come.
    var hasPart: Bool { part.readableBytes > 0 }

    /// Moves what is missing of the op that is cut, and no more than that: the ops behind it can be taken where they lie.
    ///
    /// - Returns: the op once it is whole, `nil` before.
    /// - Throws: ``AstraNetError`` with code `protocolViolation`, or `limitReached` if the node cannot hold more.
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

    /// Keeps what is left of a read. Called once for each read, also if nothing is left.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached` if the node cannot hold it.
    func keep(_ rest: ByteBuffer) throws(AstraNetError) {
        if rest.readableBytes > 0 {
            // A copy, so that the few bytes of a split op do not pin the whole read.
            part = link.channel.allocator.buffer(capacity: rest.readableBytes)
            part.writeImmutableBuffer(rest)
        }
        try count(isSame: false)
    }

    /// Gives back what is counted.
    func end() {
        part = ByteBuffer()
        link.halfOp.become(0, now: link.now, isSame: false)
        link.buffered.give(counted)
        counted = 0
    }

    /// What is left of a read counts as what peers make this node hold.
    ///
    /// - Parameter isSame: whether it is of the op of which something was left before.
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
