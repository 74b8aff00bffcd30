package import NIOCore

/// The place of bytes in the shared memory: the payload of SHARED (``SharedMemoryLedger``).
package struct SharedPlace: Hashable, Sendable {
    /// The distance from the start of the memory in bytes.
    package var offset: Int
    /// The number of bytes, from 1 to ``Op/largePayload``.
    package var count: Int

    /// The size of the encoded place in bytes: u32 offset, u32 count.
    static let size = 8

    init(offset: Int, count: Int) {
        self.offset = offset
        self.count = count
    }

    /// Decodes `payload`. Returns `nil` if it has another format or the count is out of range.
    package init?(_ payload: ByteBuffer) {
        var payload = payload
        guard payload.readableBytes == Self.size, let offset = payload.readInteger(as: UInt32.self),
            let count = payload.readInteger(as: UInt32.self), (1...Op.largePayload).contains(Int(count))
        else { return nil }
        self.init(offset: Int(offset), count: Int(count))
    }
}

extension ByteBuffer {
    /// Appends SHARED.
    package mutating func writeOp(_ header: OpHeader, _ place: SharedPlace) {
        writeOpHeader(header, payloadLength: SharedPlace.size)
        writeInteger(UInt32(place.offset))
        writeInteger(UInt32(place.count))
    }
}
