public import NIOCore

/// A frame as it came: some bytes of a larger buffer.
///
/// Keeping a frame keeps the buffer it lies in (tens of kilobytes as a rule); copy the bytes out to keep a small one
/// for long.
public struct ReceivedFrame: Sendable, Hashable {
    /// The payload, decompressed where it was compressed.
    public let bytes: ByteBuffer

    /// Makes a frame of `bytes`.
    @inlinable
    public init(_ bytes: ByteBuffer) {
        self.bytes = bytes
    }

    /// How many bytes there are.
    @inlinable
    public var count: Int { bytes.readableBytes }

    /// A copy of the bytes.
    public var array: [UInt8] { Array(bytes.readableBytesView) }

    /// The bytes as UTF-8; what is not valid is replaced.
    public var string: String { String(buffer: bytes) }

    /// Calls `body` with the bytes, which are valid only while it runs.
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
