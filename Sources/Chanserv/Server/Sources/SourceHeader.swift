package import NIOCore

/// The header of a source, encoded as its first frame (`docs/protocol.md` §5).
package struct SourceHeader: Sendable {
    let frame: ByteBuffer
    /// Minimum capacity of the buffer. The first small frames are packed behind the header.
    private static let capacity = 128

    /// - Parameter header: at most ``FrameBatch/maxFrameSize`` bytes.
    package init(_ header: ByteBuffer) {
        self = header.withUnsafeReadableBytes { SourceHeader(copying: $0) }
    }

    /// - Parameter header: at most ``FrameBatch/maxFrameSize`` bytes.
    package init(copying header: UnsafeRawBufferPointer) {
        precondition(header.count <= WireFormat.maxFrameSize, "a header of \(header.count) bytes")
        var frame = ByteBufferAllocator().buffer(capacity: max(Self.capacity, WireFormat.lengthSize + header.count))
        frame.writeInteger(UInt64(header.count), endianness: .little)
        frame.writeBytes(header)
        self.frame = frame
    }
}
