internal import NIOCore

/// Packs ops into as few buffers as possible: small ones side by side, large payloads without a copy.
struct OpPacker {
    /// Payloads up to this size are copied beside their header: cheaper than one more entry for the kernel.
    static let copyLimit = 8_192
    /// A buffer of at most this size is used again after it was written: 2 KiB. A link holds up to three, of up to 4 KiB each.
    private static let keptCapacity = 2_048

    private let allocator: ByteBufferAllocator
    private var packed = ByteBuffer()
    private var buffers: [ByteBuffer] = []
    /// Bytes written since the buffers were taken.
    private(set) var written = 0

    init(allocator: ByteBufferAllocator) {
        self.allocator = allocator
    }

    /// Begins a round with ops that are encoded already, and leaves an empty buffer in their place. The first ones are not copied:
    /// other ops are put behind them.
    mutating func begin(with ops: inout ByteBuffer) {
        guard ops.readableBytes > 0 else { return }
        if packed.readableBytes == 0, ops.readableBytes <= Self.copyLimit {
            swap(&packed, &ops)
            written += packed.readableBytes
        } else {
            write(ops)
            ops = ByteBuffer()
        }
    }

    /// Ops that are encoded already.
    mutating func write(_ ops: ByteBuffer) {
        guard ops.readableBytes > 0 else { return }
        written += ops.readableBytes
        if ops.readableBytes > Self.copyLimit {
            finishPacked()
            buffers.append(ops)
        } else {
            packed.writeImmutableBuffer(ops)
        }
    }

    mutating func write(_ header: OpHeader) {
        written += OpHeader.size
        packed.writeOp(header)
    }

    /// Two ops that have no payload.
    mutating func write(_ first: OpHeader, _ second: OpHeader) {
        written += 2 * OpHeader.size
        packed.writeOps(first, second)
    }

    mutating func write(_ header: OpHeader, _ block: DialBlock) {
        written += packed.writeOp(header, block)
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
        if payload.readableBytes > Self.copyLimit {
            packed.writeOpHeader(header, payloadLength: payload.readableBytes)
            finishPacked()
            buffers.append(payload)
        } else {
            packed.writeOp(header, copying: payload)
        }
    }

    /// Takes the buffers, and begins anew.
    mutating func takeBuffers() -> [ByteBuffer] {
        finishPacked()
        written = 0
        var taken: [ByteBuffer] = []
        swap(&taken, &buffers)
        return taken
    }

    /// Keeps the memory of an array of buffers that were taken and are not needed any more, and that of a small buffer.
    mutating func reuse(_ taken: consuming [ByteBuffer]) {
        if var last = taken.popLast(), last.storageCapacity <= Self.keptCapacity, packed.storageCapacity == 0 {
            // Where the connection still holds the buffer, this makes a new one of the same size.
            last.clear()
            packed = last
        }
        taken.empty()
        buffers = taken
    }

    private mutating func finishPacked() {
        guard packed.readableBytes > 0 else { return }
        buffers.append(packed)
        packed = buffers.count > 1 ? allocator.buffer(capacity: 4_096) : ByteBuffer()
    }
}
