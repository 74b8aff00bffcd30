import CLZ4
import NIOConcurrencyHelpers
import NIOCore

/// The reusable state of LZ4 compression, and a scratch buffer for a payload.
///
/// `@unchecked Sendable`: a compressor is owned by one `FrameBatch`, which cannot be copied, or by the pool, which is
/// protected by a lock. So two threads never use it at the same time.
package final class Compressor: @unchecked Sendable {
    /// State for small payloads. It is reset for the next payload without clearing all of it.
    private let stream: UnsafeMutablePointer<LZ4_stream_t>
    /// State for large payloads. Compressing them without reference to earlier blocks is a sixth faster, and clearing
    /// the state costs little in comparison.
    private lazy var state = UnsafeMutableRawPointer.allocate(
        byteCount: Int(LZ4_sizeofState()), alignment: MemoryLayout<LZ4_stream_t>.alignment)
    private var hasState = false
    /// Minimum size in bytes of a large payload.
    private static let large = 1_024
    /// Minimum size in bytes of a payload whose compression takes longer than a short time slice.
    static let long = 65_536
    /// A payload that cannot be compressed in place.
    var scratch = ByteBuffer()

    init() {
        stream = .allocate(capacity: 1)
        LZ4_initStream(stream, MemoryLayout<LZ4_stream_t>.size)
    }

    deinit {
        stream.deallocate()
        if hasState { state.deallocate() }
    }

    /// Returns the maximum size of a block for `size` bytes.
    package static func bound(_ size: Int) -> Int { Int(LZ4_compressBound(Int32(size))) }

    /// Compresses `payload` into one independent block.
    ///
    /// - Parameter block: at least ``bound(_:)`` bytes, so that compression cannot fail.
    /// - Returns: the length of the block.
    func compress(_ payload: UnsafeRawBufferPointer, into block: UnsafeMutableRawBufferPointer) -> Int {
        let (source, target) = (
            payload.baseAddress?.assumingMemoryBound(to: CChar.self),
            block.baseAddress?.assumingMemoryBound(to: CChar.self)
        )
        if payload.count >= CompressedPieces.minimum {
            hasState = true
            let size = CompressedPieces.compress(payload, into: block, state: state, between: TimeSlice.yield)
            // Compression in one piece needs at most LZ4's bound, which `block` has.
            if let size { return size }
        }
        let size: Int32
        if payload.count >= Self.large {
            hasState = true
            let compress = { [state] in
                LZ4_compress_fast_extState(state, source, target, Int32(payload.count), Int32(block.count), 1)
            }
            size = payload.count >= Self.long ? TimeSlice.withLong(compress) : compress()
        } else {
            LZ4_resetStream_fast(stream)
            size = LZ4_compress_fast_continue(stream, source, target, Int32(payload.count), Int32(block.count), 1)
        }
        precondition(size > 0, "LZ4 failed although its bound was kept")
        return Int(size)
    }
}

/// Idle compressors. A batch holds a compressor only while it holds compressed frames. The number in use is therefore
/// the number of sources that write at the same time, not the number of sources.
enum CompressorPool {
    /// Maximum number of idle compressors; 16 KiB each.
    private static let limit = 64
    private static let idle = NIOLockedValueBox<[Compressor]>([])

    static func take() -> Compressor {
        idle.withLockedValue { $0.popLast() } ?? Compressor()
    }

    static func giveBack(_ compressor: Compressor) {
        // Frees the scratch buffer of a very large frame.
        if compressor.scratch.capacity > 1 << 20 { compressor.scratch = ByteBuffer() }
        idle.withLockedValue { if $0.count < limit { $0.append(compressor) } }
    }
}

/// Decompresses payloads.
package enum LZ4Block {
    /// Decompresses the payload of a frame that begins with the mark.
    ///
    /// - Parameter payload: mark, u64 little-endian size, block; more than 12 bytes.
    /// - Throws: `wrongUncompressedFrameSize` if the claimed size is impossible (nothing is allocated then),
    ///   `corruptCompression` if the block does not decompress to that size.
    package static func decompress(_ payload: ByteBuffer) throws(ChanservError) -> ByteBuffer {
        var block = payload
        block.moveReaderIndex(forwardBy: 4)
        guard let claim = block.readInteger(endianness: .little, as: UInt64.self) else {
            throw ChanservError(.corruptCompression, "no size")
        }
        guard claim <= UInt64(WireFormat.maxUncompressedSize) else {
            throw ChanservError(.wrongUncompressedFrameSize, "\(claim) bytes claimed")
        }
        let size = Int(claim)
        guard size <= block.readableBytes * WireFormat.maxExpansion else {
            throw ChanservError(
                .wrongUncompressedFrameSize, "\(size) bytes claimed by a block of \(block.readableBytes) bytes")
        }
        var result = ByteBufferAllocator().buffer(capacity: size)
        let written = result.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { target in
            block.withUnsafeReadableBytes { source in
                let decompress = {
                    LZ4_decompress_safe(
                        source.baseAddress?.assumingMemoryBound(to: CChar.self),
                        target.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(source.count), Int32(size))
                }
                let count = size >= Compressor.long ? TimeSlice.withLong(decompress) : decompress()
                return max(0, Int(count))
            }
        }
        guard written == size, size > 0 || isEmptyBlock(block) else {
            throw ChanservError(.corruptCompression, "a block of \(block.readableBytes) bytes is not \(size) bytes")
        }
        return result
    }

    /// Returns whether the block is the valid block of an empty payload. LZ4 returns the same result for it and for a
    /// corrupt block.
    private static func isEmptyBlock(_ block: ByteBuffer) -> Bool {
        block.readableBytes == 1 && block.getInteger(at: block.readerIndex, as: UInt8.self) == 0
    }
}
