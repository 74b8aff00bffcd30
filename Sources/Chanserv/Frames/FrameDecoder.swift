public import NIOCore

/// Takes frames out of a stream of bytes that may be cut anywhere.
///
/// Whole frames are slices of the bytes they came in; only a frame that is cut is copied, into a buffer of its own that grows
/// with the bytes that have come, never far ahead of them, whatever length is claimed.
@usableFromInline
package struct FrameDecoder: Sendable {
    /// Bytes that came and were not looked at yet.
    @usableFromInline var chunk = ByteBuffer()
    /// Where the memory of `chunk` begins, so that a length is one load. Valid for as long as `chunk` is the buffer that it was
    /// taken from: nothing but its reader index is ever changed, so its memory stays where it is.
    @usableFromInline nonisolated(unsafe) var memory: UnsafeRawPointer?
    /// Whether the beginning of a frame, or of its length, came before `chunk`.
    @usableFromInline var isCut = false
    /// The beginning of what is cut: of a frame where `claimed` says its length, else of that length.
    private(set) var partial = ByteBuffer()
    private var claimed: Int?
    /// Whether payloads with the mark are decompressed: true for sources only (protocol section 5).
    @usableFromInline var decompresses: Bool
    /// The largest frame to take.
    private let limit: Int

    /// A frame of which so much is missing is worth a wait of its own: 32 KiB.
    private static let worthWaitingFor = 32_768
    /// So much memory may be asked for that no byte has come for yet, by a reader who waits for them: 1 MiB. It is the
    /// system's to provide when they come.
    private static let ahead = 1 << 20

    package init(decompresses: Bool, limit: Int = WireFormat.maxFrameSize) {
        self.decompresses = decompresses
        self.limit = limit
    }

    /// Adds bytes that came. Those before must have been used up: ``next()`` answered `nil`.
    package mutating func append(_ bytes: ByteBuffer) {
        assert(chunk.readableBytes == 0)
        take(bytes)
    }

    /// Takes the bytes that were not looked at. After a whole frame only.
    package mutating func takeRest() -> ByteBuffer {
        defer { chunk = ByteBuffer() }
        return chunk
    }

    /// The next frame if it is whole, small work and at hand; `nil` says to ask ``next()``, not that there is none.
    @inlinable
    mutating func nextAtHand() -> ByteBuffer? {
        let start = chunk.readerIndex
        let room = chunk.readableBytes - WireFormat.lengthSize
        guard room >= 0, !isCut, let memory else { return nil }
        let length = UInt64(littleEndian: memory.loadUnaligned(fromByteOffset: start, as: UInt64.self))
        guard length <= UInt64(room) else { return nil }
        let size = Int(length)
        let payload = start + WireFormat.lengthSize
        if decompresses, size > WireFormat.compressedHead,
            UInt32(littleEndian: memory.loadUnaligned(fromByteOffset: payload, as: UInt32.self))
                == WireFormat.compressedMark
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
    package mutating func next() throws(ChanservError) -> ByteBuffer? {
        guard let frame = try nextRaw() else { return nil }
        guard decompresses, frame.readableBytes > WireFormat.compressedHead,
            frame.getInteger(at: frame.readerIndex, endianness: .little, as: UInt32.self) == WireFormat.compressedMark
        else { return frame }
        return try LZ4Block.decompress(frame)
    }

    /// The stream has ended.
    ///
    /// - Throws: `truncatedFrame` where that was in the middle of a frame.
    package func finish() throws(ChanservError) {
        let left = partial.readableBytes + chunk.readableBytes + (claimed == nil ? 0 : WireFormat.lengthSize)
        guard left == 0 else {
            throw ChanservError(.truncatedFrame, "the stream ended after \(left) bytes of a frame and its length")
        }
    }

    // MARK: Large frames

    /// How many bytes of a large frame are to be read next, by ``read(_:_:)``: all that are missing, or as many as there is
    /// memory for. `nil` where whatever comes is to be appended.
    var missing: Int? {
        guard let claimed, claimed - partial.readableBytes >= Self.worthWaitingFor else { return nil }
        return min(claimed - partial.readableBytes, max(Self.ahead, partial.readableBytes))
    }

    /// Lets `body` append up to ``missing`` bytes to the frame.
    nonisolated(nonsending) mutating func read<Failure>(
        _ missing: Int, _ body: nonisolated(nonsending) (inout ByteBuffer) async throws(Failure) -> Int
    ) async throws(Failure) -> Int {
        makeRoom(for: partial.readableBytes + missing)
        return try await body(&partial)
    }

    // MARK: Inside

    private mutating func nextRaw() throws(ChanservError) -> ByteBuffer? {
        if claimed == nil {
            if !isCut {
                if let length = try length(in: chunk), length <= chunk.readableBytes - WireFormat.lengthSize {
                    chunk.moveReaderIndex(forwardBy: WireFormat.lengthSize)
                    return chunk.readSlice(length: length)
                }
                if chunk.readableBytes == 0 { return nil }
                isCut = true
            }
            movePartial(upTo: WireFormat.lengthSize)
            guard let length = try length(in: partial) else { return nil }
            claimed = length
            partial = ByteBuffer()
        }
        guard let size = claimed else { return nil }
        if partial.readableBytes == 0, let whole = chunk.readSlice(length: size) {
            claimed = nil
            isCut = false
            return whole
        }
        movePartial(upTo: size)
        guard partial.readableBytes == size else { return nil }
        let frame = partial
        partial = ByteBuffer()
        claimed = nil
        isCut = false
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
        // Large steps keep the copying down for a frame of many pieces.
        makeRoom(for: min(size, max(partial.readableBytes + missing, 4 * partial.readableBytes)))
        partial.writeBuffer(&bytes)
        if chunk.readableBytes == 0 { take(ByteBuffer()) }
    }

    private mutating func take(_ bytes: ByteBuffer) {
        chunk = bytes
        memory = bytes.withVeryUnsafeBytes { $0.baseAddress.map { UnsafeRawPointer($0) } }
    }

    /// Room for `size` bytes in all.
    private mutating func makeRoom(for size: Int) {
        if partial.readableBytes == 0 {
            if partial.capacity < size { partial = ByteBufferAllocator().buffer(capacity: size) }
        } else {
            partial.reserveCapacity(size)
        }
    }
}
