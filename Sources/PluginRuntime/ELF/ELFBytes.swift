/// Bytes of an ELF file or of a part of it. The offsets come from the file itself and cannot be trusted. Every read is
/// checked; a read outside of the range returns `nil`.
package struct ELFBytes: Sendable {
    private let bytes: [UInt8]
    private let range: Range<Int>

    /// All bytes of a file.
    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
        range = bytes.indices
    }

    private init(_ bytes: [UInt8], _ range: Range<Int>) {
        self.bytes = bytes
        self.range = range
    }

    package var count: UInt64 { UInt64(range.count) }
    /// Offset of the first byte in the file.
    package var start: Int { range.lowerBound }
    /// SHA-256 of the range.
    package var digest: PluginDigest { bytes[range].withUnsafeBytes { PluginDigest(of: $0) } }

    /// Returns the index of `size` bytes at `offset`. The subtraction avoids an overflow, because both numbers come
    /// from the file.
    private func index(of offset: UInt64, size: UInt64) -> Int? {
        guard offset <= count, count - offset >= size else { return nil }
        return range.lowerBound + Int(offset)
    }

    package func slice(at offset: UInt64, size: UInt64) -> ELFBytes? {
        guard let start = index(of: offset, size: size) else { return nil }
        return ELFBytes(bytes, start..<start + Int(size))
    }

    /// Returns all bytes from `offset` on.
    package func slice(from offset: UInt64) -> ELFBytes? {
        guard offset <= count else { return nil }
        return slice(at: offset, size: count - offset)
    }

    /// Reads a little-endian integer.
    package func integer<T: FixedWidthInteger & UnsignedInteger>(at offset: UInt64, as type: T.Type = T.self) -> T? {
        guard let start = index(of: offset, size: UInt64(MemoryLayout<T>.size)) else { return nil }
        return bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: start, as: T.self)) }
    }

    /// Reads an element of a table. The index also comes from the file.
    package func integer<T: FixedWidthInteger & UnsignedInteger>(
        element index: UInt64, of type: T.Type = T.self
    ) -> T? {
        let (offset, overflow) = index.multipliedReportingOverflow(by: UInt64(MemoryLayout<T>.size))
        return overflow ? nil : integer(at: offset)
    }

    /// Reads a text that ends in a zero byte within `maximum` bytes.
    package func text(at offset: UInt64, maximum: Int = 4096) -> String? {
        guard let start = index(of: offset, size: 0) else { return nil }
        let end = min(range.upperBound, start + maximum)
        guard let zero = bytes[start..<end].firstIndex(of: 0) else { return nil }
        return String(decoding: bytes[start..<zero], as: UTF8.self)
    }

    /// Whether `text` and a zero byte are at `offset`. Reads no more bytes than that.
    package func hasText(_ text: StaticString, at offset: UInt64) -> Bool {
        let size = text.utf8CodeUnitCount
        guard let start = index(of: offset, size: UInt64(size) + 1), bytes[start + size] == 0 else { return false }
        return hasPrefix(text, at: offset)
    }

    /// Whether the bytes at `offset` begin with `text`.
    package func hasPrefix(_ text: StaticString, at offset: UInt64) -> Bool {
        let size = text.utf8CodeUnitCount
        guard let start = index(of: offset, size: UInt64(size)) else { return false }
        return bytes[start..<start + size].elementsEqual(
            UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
}
