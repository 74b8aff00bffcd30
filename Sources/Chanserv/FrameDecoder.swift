public import NIOCore

/// Takes frames out of a stream of bytes that may be cut anywhere.
///
/// Whole frames are slices of the bytes they came in; only a frame that is cut is copied, into a buffer that grows with
/// the bytes that have come, never with the length that is claimed.
@usableFromInline
struct FrameDecoder: Sendable {
    /// Bytes that came and were not looked at yet.
    @usableFromInline var chunk = ByteBuffer()
    /// The beginning of a frame that is cut: its length, and as much of it as has come. It precedes `chunk`.
    @usableFromInline var partial = ByteBuffer()
    /// Whether payloads with the mark are decompressed: true for sources only (protocol section 5).
    @usableFromInline let decompresses: Bool
    /// The largest frame to take.
    private let limit: Int

    init(decompresses: Bool, limit: Int = WireFormat.maxFrameSize) {
        self.decompresses = decompresses
        self.limit = limit
    }

    /// Adds bytes that came. Those before must have been used up: ``next()`` answered `nil`.
    mutating func append(_ bytes: ByteBuffer) {
        assert(chunk.readableBytes == 0)
        chunk = bytes
    }

    /// The next frame if it is whole, small work and at hand; `nil` says to ask ``next()``, not that there is none.
    @inlinable
    mutating func nextAtHand() -> ByteBuffer? {
        let start = chunk.readerIndex
        let room = chunk.readableBytes - WireFormat.lengthSize
        guard room >= 0, partial.readableBytes == 0,
            let length = chunk.getInteger(at: start, endianness: .little, as: UInt64.self),
            length <= UInt64(room)
        else { return nil }
        let size = Int(length)
        let payload = start + WireFormat.lengthSize
        if decompresses, size > WireFormat.compressedHead,
            chunk.getInteger(at: payload, endianness: .little, as: UInt32.self) == WireFormat.compressedMark
        {
            return nil
        }
        let frame = chunk.getSlice(at: payload, length: size)
        chunk.moveReaderIndex(to: payload + size)
        return frame
    }

    /// The next frame, or `nil` when more bytes are needed for it.
    ///
    /// - Throws: `wrongFrameSize`, `wrongUncompressedFrameSize` or `corruptCompression`; the stream cannot be used on.
    mutating func next() throws(ChanservError) -> ByteBuffer? {
        guard let frame = try nextRaw() else { return nil }
        guard decompresses, frame.readableBytes > WireFormat.compressedHead,
            frame.getInteger(at: frame.readerIndex, endianness: .little, as: UInt32.self) == WireFormat.compressedMark
        else { return frame }
        return try LZ4Block.decompress(frame)
    }

    /// The stream has ended.
    ///
    /// - Throws: `truncatedFrame` where that was in the middle of a frame.
    func finish() throws(ChanservError) {
        let left = partial.readableBytes + chunk.readableBytes
        guard left == 0 else {
            throw ChanservError(.truncatedFrame, "the stream ended after \(left) bytes of a frame and its length")
        }
    }

    private mutating func nextRaw() throws(ChanservError) -> ByteBuffer? {
        if partial.readableBytes == 0 {
            if let length = try length(in: chunk), length <= chunk.readableBytes - WireFormat.lengthSize {
                chunk.moveReaderIndex(forwardBy: WireFormat.lengthSize)
                return chunk.readSlice(length: length)
            }
            if chunk.readableBytes == 0 { return nil }
            partial.clear(minimumCapacity: 0)
        }
        // The length first, then what it asks for.
        movePartial(upTo: WireFormat.lengthSize)
        guard let length = try length(in: partial) else { return nil }
        movePartial(upTo: WireFormat.lengthSize + length)
        guard partial.readableBytes == WireFormat.lengthSize + length else { return nil }
        partial.moveReaderIndex(forwardBy: WireFormat.lengthSize)
        let frame = partial
        partial = ByteBuffer()
        return frame
    }

    /// The length that stands at the front of `buffer`, `nil` where it has not come in full.
    private func length(in buffer: ByteBuffer) throws(ChanservError) -> Int? {
        guard let length = buffer.getInteger(at: buffer.readerIndex, endianness: .little, as: UInt64.self) else {
            return nil
        }
        guard length <= UInt64(limit) else {
            throw ChanservError(.wrongFrameSize, "\(length) bytes claimed, at most \(limit) allowed")
        }
        return Int(length)
    }

    private mutating func movePartial(upTo size: Int) {
        let missing = min(size - partial.readableBytes, chunk.readableBytes)
        guard missing > 0, var bytes = chunk.readSlice(length: missing) else { return }
        // Grows by what has come: at most four times the bytes at hand, never past the frame. Large steps keep the
        // copying down for a frame of many windows.
        let have = partial.readableBytes + missing
        if partial.capacity < have { partial.reserveCapacity(min(size, max(have, 4 * partial.readableBytes))) }
        partial.writeBuffer(&bytes)
    }
}
