import CLZ4
import NIOConcurrencyHelpers
import NIOCore

/// What LZ4 needs to compress: its state, reused, and room for a payload on its way into a block.
///
/// `@unchecked Sendable`: a compressor is owned by one `FrameBatch`, which cannot be copied, or by the pool, whose lock
/// it passes through; so no two threads ever use it at the same time.
final class Compressor: @unchecked Sendable {
    /// For small payloads: made ready for the next one without clearing all of it.
    private let stream: UnsafeMutablePointer<LZ4_stream_t>
    /// For larger ones, which are compressed a sixth faster where no block before them could matter; clearing it is then little.
    private lazy var state = UnsafeMutableRawPointer.allocate(
        byteCount: Int(LZ4_sizeofState()), alignment: MemoryLayout<LZ4_stream_t>.alignment)
    private var hasState = false
    /// From how many bytes on a payload is a larger one.
    private static let large = 1_024
    /// From how many bytes on one takes longer than a short turn on the processor.
    static let long = 65_536
    /// Where a payload waits that cannot be compressed in place.
    var scratch = ByteBuffer()

    init() {
        stream = .allocate(capacity: 1)
        LZ4_initStream(stream, MemoryLayout<LZ4_stream_t>.size)
    }

    deinit {
        stream.deallocate()
        if hasState { state.deallocate() }
    }

    /// The most bytes a block of `size` bytes takes.
    static func bound(_ size: Int) -> Int { Int(LZ4_compressBound(Int32(size))) }

    /// Compresses `payload` into one block that depends on no other.
    ///
    /// - Parameter block: at least ``bound(_:)`` bytes, so that it cannot fail.
    /// - Returns: the block's length.
    func compress(_ payload: UnsafeRawBufferPointer, into block: UnsafeMutableRawBufferPointer) -> Int {
        let (source, target) = (
            payload.baseAddress?.assumingMemoryBound(to: CChar.self),
            block.baseAddress?.assumingMemoryBound(to: CChar.self)
        )
        if payload.count >= CompressedPieces.minimum {
            hasState = true
            let size = CompressedPieces.compress(payload, into: block, state: state, between: Turns.giveWay)
            // In one piece it needs no more than LZ4's bound.
            if let size { return size }
        }
        let size: Int32
        if payload.count >= Self.large {
            hasState = true
            let compress = { [state] in
                LZ4_compress_fast_extState(state, source, target, Int32(payload.count), Int32(block.count), 1)
            }
            size = payload.count >= Self.long ? Turns.withLongOne(compress) : compress()
        } else {
            LZ4_resetStream_fast(stream)
            size = LZ4_compress_fast_continue(stream, source, target, Int32(payload.count), Int32(block.count), 1)
        }
        precondition(size > 0, "LZ4 failed although its bound was kept")
        return Int(size)
    }
}

/// Compressors at rest. A batch holds one only while it holds compressed frames, so there are as many as sources that
/// write at the same time, not as many as sources.
enum CompressorPool {
    /// How many are kept; 16 KiB each.
    private static let limit = 64
    private static let idle = NIOLockedValueBox<[Compressor]>([])

    static func take() -> Compressor {
        idle.withLockedValue { $0.popLast() } ?? Compressor()
    }

    static func giveBack(_ compressor: Compressor) {
        // The scratch of a huge frame must not stay for ever.
        if compressor.scratch.capacity > 1 << 20 { compressor.scratch = ByteBuffer() }
        idle.withLockedValue { if $0.count < limit { $0.append(compressor) } }
    }
}

/// The way back.
enum LZ4Block {
    /// Decompresses the payload of a frame that carries the mark.
    ///
    /// - Parameter payload: mark, u64 little-endian size, block; more than 12 bytes.
    /// - Throws: `wrongUncompressedFrameSize` before anything is allocated where the claim cannot be true,
    ///   `corruptCompression` where the block is not what it claims.
    static func decompress(_ payload: ByteBuffer) throws(ChanservError) -> ByteBuffer {
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
                let count = size >= Compressor.long ? Turns.withLongOne(decompress) : decompress()
                return max(0, Int(count))
            }
        }
        guard written == size, size > 0 || isEmptyBlock(block) else {
            throw ChanservError(.corruptCompression, "a block of \(block.readableBytes) bytes is not \(size) bytes")
        }
        return result
    }

    /// Whether a block is the one that stands for nothing; LZ4 reports it and a broken one alike.
    private static func isEmptyBlock(_ block: ByteBuffer) -> Bool {
        block.readableBytes == 1 && block.getInteger(at: block.readerIndex, as: UInt8.self) == 0
    }
}
