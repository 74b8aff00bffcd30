import CLZ4

/// A large payload, compressed in pieces that together are one block, so that between them others have the processor.
///
/// LZ4 compresses in one call, which takes 0.9 ms for 1 MiB of text, and that long whoever answers a small request waits.
///
/// Each piece is compressed as a block of its own. The last sequence of a block has literals and no match: the block ends where
/// the match's offset would come, and its token, whose lower half LZ4 writes as 0, says that the match has four bytes (LZ4 block
/// format, "End of block conditions"). With an offset there the block goes on. So a piece ends where the next four bytes were
/// there before, and the piece behind it begins after them.
enum CompressedPieces {
    /// A piece takes about as long as a short turn on the processor. Matches do not reach across, which costs a hundredth of the
    /// block's size with pieces like this, and three with half of it.
    private static let size = 131_072
    /// From so many bytes on there is more than one piece.
    static let minimum = 2 * size
    /// How far back the four bytes are looked for: an offset has 16 bits, and a match that is rare is rarely far either.
    private static let reach = 8_192
    /// How many bytes a match without a length has.
    private static let match = 4

    /// Compresses `payload` into one block.
    ///
    /// Where nothing repeats no piece can end, and all is one: then LZ4 is through at once, as a rule.
    ///
    /// - Parameters:
    ///   - payload: at least ``minimum`` bytes.
    ///   - state: what LZ4 works with, of `LZ4_sizeofState()` bytes.
    ///   - between: called after each piece but the last.
    /// - Returns: the block's length, `nil` where `block` is too small.
    static func compress(
        _ payload: UnsafeRawBufferPointer, into block: UnsafeMutableRawBufferPointer, state: UnsafeMutableRawPointer,
        between: () -> Void
    ) -> Int? {
        var start = 0
        var written = 0
        while true {
            let end = end(of: start, in: payload)
            let piece = UnsafeRawBufferPointer(rebasing: payload[start..<(end?.position ?? payload.count)])
            let room = UnsafeMutableRawBufferPointer(rebasing: block[written...])
            let compress = {
                LZ4_compress_fast_extState(
                    state, piece.baseAddress?.assumingMemoryBound(to: CChar.self),
                    room.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(piece.count), Int32(room.count), 1)
            }
            // Several in one: the end of a piece was not found, though there may be much to compress.
            let length = piece.count > minimum ? Turns.withLongOne(compress) : compress()
            guard length > 0 else { return nil }
            written += Int(length)
            guard let end else { return written }
            guard block.count - written > MemoryLayout<UInt16>.size else { return nil }
            block.storeBytes(of: end.offset.littleEndian, toByteOffset: written, as: UInt16.self)
            written += MemoryLayout<UInt16>.size
            start = end.position + match
            between()
        }
    }

    /// Where the piece ends that begins at `start`, and how far before that the next four bytes are too; `nil` where it is the
    /// last one. What is left behind it is never less than a piece: a block's last bytes may not be a match.
    private static func end(of start: Int, in payload: UnsafeRawBufferPointer) -> (position: Int, offset: UInt16)? {
        guard let bytes = payload.baseAddress else { return nil }
        for position in stride(from: start + size, through: payload.count - size - match, by: size) {
            // Overlapping what is looked for is fine, as in any match.
            let first = position - reach
            if let found = memmem(bytes + first, reach + match - 1, bytes + position, match) {
                return (position, UInt16(bytes + position - UnsafeRawPointer(found)))
            }
        }
        return nil
    }
}
