public import NIOCore

/// Something that can be sent as a frame, a header or a request body.
///
/// A message type conforms by serialising itself straight into the outgoing buffer, without an intermediate copy.
public protocol Frame: Sendable {
    /// Appends the payload's bytes (and only these: the length is the library's business) to `buffer`.
    ///
    /// At most 104,857,600 bytes (100 MiB) can be sent as one frame (protocol section 5).
    func write(into buffer: inout ByteBuffer)
}

extension ByteBuffer: Frame {
    public func write(into buffer: inout ByteBuffer) {
        buffer.writeImmutableBuffer(self)
    }
}

extension [UInt8]: Frame {
    public func write(into buffer: inout ByteBuffer) {
        buffer.writeBytes(self)
    }
}

extension String: Frame {
    public func write(into buffer: inout ByteBuffer) {
        buffer.writeString(self)
    }
}
