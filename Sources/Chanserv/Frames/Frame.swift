public import NIOCore

/// A value that can be sent as a frame, a header or a request body.
///
/// A message type conforms by serialising itself directly into the outgoing buffer, without an intermediate copy.
public protocol Frame: Sendable {
    /// Appends the bytes of the payload to `buffer`. The library writes the length.
    ///
    /// A frame has at most 104,857,600 bytes (100 MiB), `docs/protocol.md` §5.
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
