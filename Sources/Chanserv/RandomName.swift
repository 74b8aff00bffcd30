/// Generates names for sources.
enum RandomName {
    private static let digits: [UInt8] = Array("0123456789abcdef".utf8)

    /// Returns a new random UUID, version 4, in lower case. Go servers use the same form.
    static func uuid(_ random: () -> UInt64) -> String {
        let high = random() & 0xffff_ffff_ffff_0fff | 0x4000
        let low = random() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
        return String(unsafeUninitializedCapacity: 36) { text in
            var at = 0
            for nibble in 0..<32 {
                if nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20 {
                    text[at] = UInt8(ascii: "-")
                    at += 1
                }
                let word = nibble < 16 ? high : low
                text[at] = digits[Int(word >> UInt64(60 - nibble % 16 * 4) & 15)]
                at += 1
            }
            return at
        }
    }
}
