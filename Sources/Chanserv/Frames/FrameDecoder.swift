public import NIOCore

/// Decodes frames from a byte stream that may be split at any byte.
///
/// Complete frames are slices of the received buffers. Only a split frame is copied, into a buffer of its own. That
/// buffer grows with the received bytes and never far beyond them, whatever length the frame claims.
@usableFromInline
package struct FrameDecoder: Sendable {
    /// Received bytes that are not decoded yet.
    @usableFromInline var chunk = ByteBuffer()
    /// The start of `chunk`'s memory, so that reading a length is one load. It is valid while `chunk` is the buffer
    /// from which it was taken: only the reader index of that buffer changes, so its memory does not move.
    @usableFromInline nonisolated(unsafe) var memory: UnsafeRawPointer?
    /// Whether the beginning of the current frame, or of its length, was received before `chunk`.
    @usableFromInline var isCut = false
    /// The beginning of a split frame if `claimed` is set, otherwise of a split length.
    package private(set) var partial = ByteBuffer()
    private var claimed: Int?
    /// Whether payloads with the compression mark are decompressed: only those of sources (`docs/protocol.md` §5).
    @usableFromInline var decompresses: Bool
    /// Maximum frame size.
    private let limit: Int

    /// Minimum number of missing bytes for which a reader waits for exactly these: 32 KiB.
    private static let worthWaitingFor = 32_768
    /// Maximum memory that is allocated for a frame before any of its bytes have arrived: 1 MiB. The system provides
    /// the pages when the bytes arrive.
    private static let ahead = 1 << 20

    package init(decompresses: Bool, limit: Int = WireFormat.maxFrameSize) {
        self.decompresses = decompresses
        self.limit = limit
    }

    /// Adds received bytes. All earlier bytes must be used up: ``next()`` has returned `nil`.
    package mutating func append(_ bytes: ByteBuffer) {
        assert(chunk.readableBytes == 0)
        take(bytes)
    }

    /// Returns the bytes that are not decoded. Call it only after a complete frame.
    package mutating func takeRest() -> ByteBuffer {
        defer { chunk = ByteBuffer() }
        return chunk
    }

    /// Returns the next frame if it is complete in `chunk` and not compressed. `nil` means that ``next()`` must be
    /// called, not that there is no frame.
    @inlinable
    package mutating func nextAtHand() -> ByteBuffer? {
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

    /// Returns the next frame; `nil` if more bytes are needed.
    ///
    /// - Throws: `wrongFrameSize`, `wrongUncompressedFrameSize` or `corruptCompression`. The stream cannot be used
    ///   afterwards.
    package mutating func next() throws(ChanservError) -> ByteBuffer? {
        guard let frame = try nextRaw() else { return nil }
        guard decompresses, frame.readableBytes > WireFormat.compressedHead,
            frame.getInteger(at: frame.readerIndex, endianness: .little, as: UInt32.self) == WireFormat.compressedMark
        else { return frame }
        return try LZ4Block.decompress(frame)
    }

    /// Checks the end of the stream.
    ///
    /// - Throws: `truncatedFrame` if the stream ended inside a frame.
    package func finish() throws(ChanservError) {
        let left = partial.readableBytes + chunk.readableBytes + (claimed == nil ? 0 : WireFormat.lengthSize)
        guard left == 0 else {
            throw ChanservError(.truncatedFrame, "the stream ended after \(left) bytes of a frame and its length")
        }
    }

    // MARK: Large frames

    /// The number of bytes to read next with ``read(_:_:)`` for a large frame: all missing bytes, up to the memory that
    /// may be allocated now. `nil` if received bytes must be added with ``append(_:)``.
    var missing: Int? {
        guard let claimed, claimed - partial.readableBytes >= Self.worthWaitingFor else { return nil }
        return min(claimed - partial.readableBytes, max(Self.ahead, partial.readableBytes))
    }

    /// Lets `body` append up to ``missing`` bytes to the frame. Returns the result of `body`.
    nonisolated(nonsending) mutating func read<Failure>(
        _ missing: Int, _ body: nonisolated(nonsending) (inout ByteBuffer) async throws(Failure) -> Int
    ) async throws(Failure) -> Int {
        makeRoom(for: partial.readableBytes + missing)
        return try await body(&partial)
    }

    // MARK: Implementation

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

    /// Returns the length at the front of `buffer`; `nil` if it has not arrived completely.
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
        // Growing in large steps limits the copying for a frame that arrives in many pieces.
        makeRoom(for: min(size, max(partial.readableBytes + missing, 4 * partial.readableBytes)))
        partial.writeBuffer(&bytes)
        if chunk.readableBytes == 0 { take(ByteBuffer()) }
    }

    private mutating func take(_ bytes: ByteBuffer) {
        chunk = bytes
        memory = bytes.withVeryUnsafeBytes { $0.baseAddress.map { UnsafeRawPointer($0) } }
    }

    /// Ensures a capacity of `size` bytes in all.
    private mutating func makeRoom(for size: Int) {
        if partial.readableBytes == 0 {
            if partial.capacity < size { partial = ByteBufferAllocator().buffer(capacity: size) }
        } else {
            partial.reserveCapacity(size)
        }
    }
}
