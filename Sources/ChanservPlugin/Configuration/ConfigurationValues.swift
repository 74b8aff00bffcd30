/// A number of bytes, configured as `512`, `64KiB`, `100MiB`, `1GiB` or `64kB`.
public struct ByteSize: Sendable, Hashable, Comparable, Codable {
    /// The number of bytes.
    public var bytes: Int

    public init(bytes: Int) { self.bytes = bytes }

    public static func bytes(_ count: Int) -> ByteSize { ByteSize(bytes: count) }
    public static func kibibytes(_ count: Int) -> ByteSize { ByteSize(bytes: count << 10) }
    public static func mebibytes(_ count: Int) -> ByteSize { ByteSize(bytes: count << 20) }

    init?(exactly bytes: UInt64) {
        guard let bytes = Int(exactly: bytes) else { return nil }
        self.bytes = bytes
    }

    public static func < (left: ByteSize, right: ByteSize) -> Bool { left.bytes < right.bytes }
}

/// A file system path, configured as text. It is always absolute: a relative path is resolved against the folder of the
/// configuration file.
public struct ConfiguredPath: Sendable, Hashable, Codable {
    public var string: String

    public init(_ string: String) { self.string = string }
}
