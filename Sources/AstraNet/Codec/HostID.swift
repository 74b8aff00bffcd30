/// The number that names one node (one process) on the mesh: random and new at each start.
///
/// Go draws 63 bits, so ours do too. 0 on the wire means "whoever is at the other end of this link" and names nobody
/// (`docs/protocol.md` §1).
public struct HostID: Hashable, Sendable {
    /// The number as it stands on the wire.
    public var rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// A fresh identity.
    public static func random() -> HostID {
        HostID(rawValue: UInt64.random(in: 1...UInt64(Int64.max)))
    }

    /// Whoever is at the other end of a link.
    static let peer = HostID(rawValue: 0)
}

/// Printed as base64url without padding of the 8 big-endian bytes and one zero byte, twelve characters
/// (`docs/protocol.md` §3), e.g. `EjRWeBI0VngA`.
extension HostID: LosslessStringConvertible {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    /// The number of digits.
    static let digitCount = 12

    public var description: String {
        String(unsafeUninitializedCapacity: Self.digitCount) { write(into: $0) }
    }

    /// Writes the ``digitCount`` digits.
    ///
    /// - Returns: how many.
    func write(into buffer: UnsafeMutableBufferPointer<UInt8>) -> Int {
        // 72 bits, the last 8 of them zero, in 12 digits of 6 bits: the digits of rawValue << 8.
        Self.alphabet.withUnsafeBufferPointer { alphabet in
            for index in 0..<Self.digitCount {
                let lowBit = 66 - 6 * index - 8
                let digit = lowBit >= 0 ? rawValue >> UInt64(lowBit) : rawValue << UInt64(-lowBit)
                buffer[index] = alphabet[Int(digit & 0x3F)]
            }
        }
        return Self.digitCount
    }

    /// Parses what ``description`` prints; `nil` for anything else.
    public init?(_ description: String) {
        let digits = Array(description.utf8)
        guard digits.count == 12 else { return nil }
        var value: UInt64 = 0
        for (index, character) in digits.enumerated() {
            guard let digit = Self.alphabet.firstIndex(of: character).map(UInt64.init) else { return nil }
            let lowBit = 66 - 6 * index - 8
            if lowBit >= 0 {
                value |= digit << UInt64(lowBit)
            } else {
                guard digit & ((1 << UInt64(-lowBit)) - 1) == 0 else { return nil }
                value |= digit >> UInt64(-lowBit)
            }
        }
        rawValue = value
    }
}
