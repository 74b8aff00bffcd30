public import NIOCore

/// A received frame: a slice of a larger buffer.
///
/// A frame retains the whole buffer, usually tens of kilobytes. To keep a small frame for long, copy its bytes.
public struct ReceivedFrame: Sendable, Hashable {
    /// The payload, decompressed if necessary.
    public let bytes: ByteBuffer

    /// Creates a frame of `bytes`.
    @inlinable
    public init(_ bytes: ByteBuffer) {
        self.bytes = bytes
    }

    /// The number of bytes.
    @inlinable
    public var count: Int { bytes.readableBytes }

    /// A copy of the bytes.
    public var array: [UInt8] { Array(bytes.readableBytesView) }

    /// The bytes decoded as UTF-8; invalid bytes are replaced.
    public var string: String { String(buffer: bytes) }

    /// Calls `body` with the bytes, which are valid only during the call.
    @inlinable
    public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try bytes.withUnsafeReadableBytes(body)
    }
}

extension ReceivedFrame: Frame {
    public func write(into buffer: inout ByteBuffer) {
        bytes.write(into: &buffer)
    }
}
