package import NIOCore

/// The header of a source, encoded as the frame that begins it (`docs/protocol.md` §5).
package struct SourceHeader: Sendable {
    let frame: ByteBuffer
    /// Room for the first small frames, which are packed behind it: 128 bytes.
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
