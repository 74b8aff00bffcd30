internal import Crypto

/// SHA-256 of a library's bytes. It is compared with a pin, and it distinguishes versions of a library.
package struct PluginDigest: Sendable, Hashable {
    private let bytes: [UInt8]

    /// Hashes `data`.
    package init(of data: UnsafeRawBufferPointer) {
        var hash = SHA256()
        hash.update(bufferPointer: data)
        bytes = Array(hash.finalize())
    }

    /// Parses 64 hexadecimal digits of either case. Returns `nil` for any other text.
    package init?(hex: some StringProtocol) {
        let digits = Array(hex.utf8)
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(32)
        for index in stride(from: 0, to: 64, by: 2) {
            guard let high = Self.value(of: digits[index]), let low = Self.value(of: digits[index + 1]) else {
                return nil
            }
            bytes.append(high << 4 | low)
        }
        self.bytes = bytes
    }

    private static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

extension PluginDigest: CustomStringConvertible {
    /// 64 lower-case hexadecimal digits, as printed by `sha256sum`.
    package var description: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
