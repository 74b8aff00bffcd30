/// The numbers of protocol section 5.
@usableFromInline
enum WireFormat {
    /// Bytes of the length before each frame.
    @usableFromInline static let lengthSize = 8
    /// The largest frame, header or request body: 100 MiB.
    @usableFromInline static let maxFrameSize = 104_857_600
    /// What the largest compressed frame may become: 200 MiB.
    static let maxUncompressedSize = 209_715_200
    /// What the first four bytes of a compressed payload spell, `lz4!`, read as a little-endian integer.
    @usableFromInline static let compressedMark = UInt32(0x2134_7a6c)
    /// The mark and the uncompressed size, which precede the block. A payload not longer than this is never compressed.
    @usableFromInline static let compressedHead = 12
    /// How many bytes one byte of an LZ4 block can stand for at most.
    static let maxExpansion = 255
    /// The longest name of a source that is believed; Go's names have 36 bytes.
    static let maxNameSize = 1024
}
