package import NIOCore

/// Packs ops into as few buffers as possible. Small ops share a buffer. Large payloads keep their own buffers and are
/// not copied.
package struct OpPacker {
    /// Maximum size of a payload that is copied behind its header, in bytes (8 KiB).
    ///
    /// Copying it is cheaper than one more buffer in the `writev`.
    static let copyLimit = 8_192
    /// Maximum capacity of a buffer that is reused after it was written, in bytes (2 KiB). A link holds up to three
    /// buffers of up to 4 KiB each.
    private static let keptCapacity = 2_048

    private let allocator: ByteBufferAllocator
    private var packed = ByteBuffer()
    private var buffers: [ByteBuffer] = []
    /// Number of bytes packed since the last ``takeBuffers()``.
    package private(set) var written = 0

    package init(allocator: ByteBufferAllocator) {
        self.allocator = allocator
    }

    /// Begins a round with encoded ops and leaves an empty buffer in their place.
    ///
    /// Ops of at most ``copyLimit`` bytes are not copied if nothing is packed yet: later ops are appended to their
    /// buffer.
    package mutating func begin(with ops: inout ByteBuffer) {
        guard ops.readableBytes > 0 else { return }
        if packed.readableBytes == 0, ops.readableBytes <= Self.copyLimit {
            swap(&packed, &ops)
            written += packed.readableBytes
        } else {
            write(ops)
            ops = ByteBuffer()
        }
    }

    /// Packs ops that are already encoded.
    package mutating func write(_ ops: ByteBuffer) {
        guard ops.readableBytes > 0 else { return }
        written += ops.readableBytes
        if ops.readableBytes > Self.copyLimit {
            finishPacked()
            buffers.append(ops)
        } else {
            packed.writeImmutableBuffer(ops)
        }
    }

    package mutating func write(_ header: OpHeader) {
        written += OpHeader.size
        packed.writeOp(header)
    }

    /// Packs two ops without payloads.
    package mutating func write(_ first: OpHeader, _ second: OpHeader) {
        written += 2 * OpHeader.size
        packed.writeOps(first, second)
    }

    package mutating func write(_ header: OpHeader, _ block: DialBlock) {
        written += packed.writeOp(header, block)
    }

    package mutating func write(_ header: OpHeader, number: UInt32) {
        written += OpHeader.size + 4
        packed.writeOp(header, number: number)
    }

    package mutating func write(_ header: OpHeader, _ place: SharedPlace) {
        written += OpHeader.size + SharedPlace.size
        packed.writeOp(header, place)
    }

    package mutating func write(_ header: OpHeader, payload: ByteBuffer) {
        written += OpHeader.size + payload.readableBytes
        if payload.readableBytes > Self.copyLimit {
            packed.writeOpHeader(header, payloadLength: payload.readableBytes)
            finishPacked()
            buffers.append(payload)
        } else {
            packed.writeOp(header, copying: payload)
        }
    }

    /// Removes and returns the packed buffers.
    package mutating func takeBuffers() -> [ByteBuffer] {
        finishPacked()
        written = 0
        var taken: [ByteBuffer] = []
        swap(&taken, &buffers)
        return taken
    }

    /// Keeps the memory of an array of written buffers for reuse, and that of its last buffer if it is small.
    package mutating func reuse(_ taken: consuming [ByteBuffer]) {
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
