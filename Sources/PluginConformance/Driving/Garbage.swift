/// Invalid requests. Every answer is right, but a crash or a hang is not.
enum Garbage {
    /// The requests with their descriptions for messages.
    static var all: [(name: String, body: [UInt8])] {
        [
            ("no bytes", []),
            ("one zero byte", [0]),
            ("1 MiB of zero bytes", [UInt8](repeating: 0, count: 1 << 20)),
            ("1 MiB of the letter a", [UInt8](repeating: UInt8(ascii: "a"), count: 1 << 20)),
            ("64 KiB of digits", [UInt8](repeating: UInt8(ascii: "9"), count: 1 << 16)),
            ("64 KiB of spaces", [UInt8](repeating: UInt8(ascii: " "), count: 1 << 16)),
            ("10,000 lines", Array(repeatElement("x\n", count: 10_000).joined().utf8)),
            ("invalid UTF-8", [0xFF, 0xFE, 0xC0, 0x80, 0xED, 0xA0, 0x80, 0xF8, 0x88]),
            ("a UTF-8 character without its end", [0x61, 0xE2, 0x82]),
            ("format specifiers", Array("%s%n%s%n%x%d %p".utf8)),
            ("brackets that are not closed", [UInt8](repeating: UInt8(ascii: "["), count: 10_000)),
            ("numbers at their limits", Array("-1 9223372036854775808 18446744073709551616 1e400 nan -0".utf8)),
            ("a path", Array("../../../../etc/passwd\0/".utf8)),
            ("64 KiB of noise", noise(1 << 16)),
        ]
    }

    /// A few short ones.
    static let brief: [[UInt8]] = [[0], [0xFF, 0xFE], Array("%s%n -1 99999999999999999999".utf8)]

    /// Returns pseudo-random bytes, the same in every run.
    private static func noise(_ count: Int) -> [UInt8] {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        return (0..<count).map { _ in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return UInt8(truncatingIfNeeded: state)
        }
    }
}
