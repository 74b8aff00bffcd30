import CLZ4

/// Compresses a large payload in pieces that together form one LZ4 block, so that other threads can run between them.
///
/// LZ4 compresses in one call: 0.9 ms for 1 MiB of text. A thread that answers a small request would wait for that
/// time.
///
/// Each piece is compressed as a block of its own. The last sequence of a block has literals and no match: the block
/// ends at the place of the match offset. LZ4 writes 0 into the lower half of that sequence's token, which stands for a
/// match of four bytes (LZ4 block format, "End of block conditions"). Writing an offset there continues the block. So a
/// piece may end where the next four bytes occurred before, and the next piece begins after these four bytes.
package enum CompressedPieces {
    /// Size of a piece. Compressing it takes about one short time slice. Matches do not reach across pieces: that makes
    /// the block 1% larger, and 3% larger with pieces of half the size.
    private static let size = 131_072
    /// Minimum size of a payload that is compressed in more than one piece.
    package static let minimum = 2 * size
    /// The distance in which an earlier copy of the four bytes is searched. An offset has 16 bits, and distant matches
    /// are rare.
    private static let reach = 8_192
    /// The length in bytes of a match whose token half is 0.
    private static let match = 4

    /// Compresses `payload` into one block.
    ///
    /// In data without repetition no piece can end. The payload is then compressed in one call, which is usually fast
    /// for such data.
    ///
    /// - Parameters:
    ///   - payload: at least ``minimum`` bytes.
    ///   - state: the working memory of LZ4, `LZ4_sizeofState()` bytes.
    ///   - between: called after each piece but the last.
    /// - Returns: the length of the block; `nil` if `block` is too small.
    package static func compress(
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
            // A piece this large means that no end was found for a long distance, so compressing it may take long.
            let length = piece.count > minimum ? TimeSlice.withLong(compress) : compress()
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

    /// Returns the end of the piece that begins at `start`, and the distance to an earlier copy of the next four bytes;
    /// `nil` for the last piece. At least one piece remains behind the end, because the last bytes of a block must not
    /// be a match.
    private static func end(of start: Int, in payload: UnsafeRawBufferPointer) -> (position: Int, offset: UInt16)? {
        guard let bytes = payload.baseAddress else { return nil }
        for position in stride(from: start + size, through: payload.count - size - match, by: size) {
            // An overlap of the two copies is allowed, as in every match.
            let first = position - reach
            if let found = memmem(bytes + first, reach + match - 1, bytes + position, match) {
                return (position, UInt16(bytes + position - UnsafeRawPointer(found)))
            }
        }
        return nil
    }
}
