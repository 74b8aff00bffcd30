/// The bytes of a file, or a part of them, read the way ELF files are: numbers and texts at offsets that the file itself
/// tells, none of which can be trusted. Every read is checked, and one that does not lie within is `nil`.
package struct ELFBytes: Sendable {
    private let bytes: [UInt8]
    private let range: Range<Int>

    /// A whole file.
    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
        range = bytes.indices
    }

    private init(_ bytes: [UInt8], _ range: Range<Int>) {
        self.bytes = bytes
        self.range = range
    }

    package var count: UInt64 { UInt64(range.count) }

    /// The index of `size` bytes at `offset`. Overflow by subtraction: both numbers are the file's.
    private func index(of offset: UInt64, size: UInt64) -> Int? {
        guard offset <= count, count - offset >= size else { return nil }
        return range.lowerBound + Int(offset)
    }

    package func slice(at offset: UInt64, size: UInt64) -> ELFBytes? {
        guard let start = index(of: offset, size: size) else { return nil }
        return ELFBytes(bytes, start..<start + Int(size))
    }

    /// All from `offset` on.
    package func slice(from offset: UInt64) -> ELFBytes? {
        guard offset <= count else { return nil }
        return slice(at: offset, size: count - offset)
    }

    /// A little-endian number.
    package func integer<T: FixedWidthInteger & UnsignedInteger>(at offset: UInt64, as type: T.Type = T.self) -> T? {
        guard let start = index(of: offset, size: UInt64(MemoryLayout<T>.size)) else { return nil }
        return bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: start, as: T.self)) }
    }

    /// The element of a table, whose index is the file's as well.
    package func integer<T: FixedWidthInteger & UnsignedInteger>(
        element index: UInt64, of type: T.Type = T.self
    ) -> T? {
        let (offset, overflow) = index.multipliedReportingOverflow(by: UInt64(MemoryLayout<T>.size))
        return overflow ? nil : integer(at: offset)
    }

    /// A text that ends in a zero byte, which must come within `maximum` bytes.
    package func text(at offset: UInt64, maximum: Int = 4096) -> String? {
        guard let start = index(of: offset, size: 0) else { return nil }
        let end = min(range.upperBound, start + maximum)
        guard let zero = bytes[start..<end].firstIndex(of: 0) else { return nil }
        return String(decoding: bytes[start..<zero], as: UTF8.self)
    }

    /// Whether `text` and a zero byte stand at `offset`; what else may stand there, however long, is not read.
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
