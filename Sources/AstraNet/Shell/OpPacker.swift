internal import NIOCore

/// Packs ops into as few buffers as possible: small ones side by side, large payloads without a copy.
struct OpPacker {
    /// Payloads up to this size are copied beside their header: cheaper than one more entry for the kernel.
    static let copyLimit = 8_192

    private let allocator: ByteBufferAllocator
    private let emit: (ByteBuffer) -> Void
    private var packed: ByteBuffer
    /// Bytes written so far.
    private(set) var written = 0

    init(allocator: ByteBufferAllocator, emit: @escaping (ByteBuffer) -> Void) {
        self.allocator = allocator
        self.emit = emit
        packed = ByteBuffer()
    }

    /// Ops that are encoded already.
    mutating func write(_ ops: ByteBuffer) {
        guard ops.readableBytes > 0 else { return }
        written += ops.readableBytes
        if ops.readableBytes > Self.copyLimit {
            emitPacked()
            emit(ops)
        } else {
            packed.writeImmutableBuffer(ops)
        }
    }

    mutating func write(_ header: OpHeader) {
        written += OpHeader.size
        packed.writeOp(header)
    }

    mutating func write(_ header: OpHeader, _ block: DialBlock) {
        written += OpHeader.size + block.encodedSize
        packed.writeOp(header, block)
    }

    mutating func write(_ header: OpHeader, number: UInt32) {
        written += OpHeader.size + 4
        packed.writeOp(header, number: number)
    }

    mutating func write(_ header: OpHeader, _ place: SharedPlace) {
        written += OpHeader.size + SharedPlace.size
        packed.writeOp(header, place)
    }

    mutating func write(_ header: OpHeader, payload: ByteBuffer) {
        written += OpHeader.size + payload.readableBytes
        packed.writeOpHeader(header, payloadLength: payload.readableBytes)
        if payload.readableBytes > Self.copyLimit {
            emitPacked()
            emit(payload)
        } else {
            packed.writeImmutableBuffer(payload)
        }
    }

    /// Emits what is still here.
    mutating func finish() {
        emitPacked()
    }

    private mutating func emitPacked() {
        guard packed.readableBytes > 0 else { return }
        emit(packed)
        packed = allocator.buffer(capacity: 4_096)
    }
}
