internal import NIOCore

/// Packs ops into a minimum of buffers: small ops are copied side by side, large payloads keep their own buffers.
struct OpPacker {
    /// Payloads up to this size are copied next to their header: 8 KiB. The copy is cheaper than another buffer for the
    /// kernel.
    static let copyLimit = 8_192
    /// A written buffer of at most this size is reused: 2 KiB. A link holds up to three, of up to 4 KiB each.
    private static let keptCapacity = 2_048

    private let allocator: ByteBufferAllocator
    private var packed = ByteBuffer()
    private var buffers: [ByteBuffer] = []
    /// The number of bytes since the buffers were taken.
    private(set) var written = 0

    init(allocator: ByteBufferAllocator) {
        self.allocator = allocator
    }

    /// Begins a round with encoded ops, and leaves an empty buffer in their place. If they are few, they are not
    /// copied: later ops are appended to their buffer.
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

    /// Packs encoded ops.
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

    /// Packs two ops without payload.
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

    /// Takes the buffers and starts a new round.
    mutating func takeBuffers() -> [ByteBuffer] {
        finishPacked()
        written = 0
        var taken: [ByteBuffer] = []
        swap(&taken, &buffers)
        return taken
    }

    /// Keeps the memory of a written array of buffers, and that of its last buffer if it is small.
    mutating func reuse(_ taken: consuming [ByteBuffer]) {
        if var last = taken.popLast(), last.storageCapacity <= Self.keptCapacity, packed.storageCapacity == 0 {
            // If the connection still holds the buffer, this allocates a new one of the same size.
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
