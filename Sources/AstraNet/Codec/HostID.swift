/// The number that identifies a node (one process) on the mesh. It is random, and new at each start.
///
/// It has 63 bits, as in Go. On the wire, 0 means the peer of the link (`docs/protocol.md` §1).
public struct HostID: Hashable, Sendable {
    /// The number as it is on the wire.
    public var rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Returns a new random host id.
    public static func random() -> HostID {
        HostID(rawValue: UInt64.random(in: 1...UInt64(Int64.max)))
    }

    /// The peer of a link, as the destination of an op.
    package static let peer = HostID(rawValue: 0)
}

/// The text form is base64url without padding of the 8 big-endian bytes and a zero byte. It has 12 characters
/// (`docs/protocol.md` §3), e.g. `EjRWeBI0VngA`.
extension HostID: LosslessStringConvertible {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    /// The number of characters of the text form.
    static let digitCount = 12

    public var description: String {
        String(unsafeUninitializedCapacity: Self.digitCount) { write(into: $0) }
    }

    /// Writes the ``digitCount`` characters to `buffer`.
    ///
    /// - Returns: the number of characters.
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

    /// Parses the format of ``description``. Returns `nil` for any other text.
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
