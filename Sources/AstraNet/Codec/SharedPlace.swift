internal import NIOCore

/// Where shared bytes are: the payload of SHARED (``SharedMemoryLedger``).
struct SharedPlace: Hashable, Sendable {
    /// From the beginning of the memory.
    var offset: Int
    /// From 1 to ``Op/largePayload``.
    var count: Int

    /// In bytes: u32 offset, u32 count.
    static let size = 8

    init(offset: Int, count: Int) {
        self.offset = offset
        self.count = count
    }

    /// `nil` if `payload` is something else, or names too many bytes.
    init?(_ payload: ByteBuffer) {
        var payload = payload
        guard payload.readableBytes == Self.size, let offset = payload.readInteger(as: UInt32.self),
            let count = payload.readInteger(as: UInt32.self), (1...Op.largePayload).contains(Int(count))
        else { return nil }
        self.init(offset: Int(offset), count: Int(count))
    }
}

extension ByteBuffer {
    /// Appends a SHARED.
    mutating func writeOp(_ header: OpHeader, _ place: SharedPlace) {
        writeOpHeader(header, payloadLength: SharedPlace.size)
        writeInteger(UInt32(place.offset))
        writeInteger(UInt32(place.count))
    }
}
