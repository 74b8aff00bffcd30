/// The constants of `docs/protocol.md` §5.
@usableFromInline
package enum WireFormat {
    /// The size in bytes of the length before each frame.
    @usableFromInline static let lengthSize = 8
    /// Maximum size of a frame, header or request body: 100 MiB.
    @usableFromInline package static let maxFrameSize = 104_857_600
    /// Maximum size of a frame after decompression: 200 MiB.
    package static let maxUncompressedSize = 209_715_200
    /// The first four bytes of a compressed payload, `lz4!`, as a little-endian integer.
    @usableFromInline static let compressedMark = UInt32(0x2134_7a6c)
    /// The size of the mark and the uncompressed size, which precede the block. A payload of at most this size is never
    /// compressed.
    @usableFromInline static let compressedHead = 12
    /// Maximum number of uncompressed bytes for each byte of an LZ4 block.
    package static let maxExpansion = 255
    /// Maximum length in bytes of a source's name. Names by Go servers have 36 bytes.
    package static let maxNameSize = 1024
}
