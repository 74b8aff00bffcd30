/// SplitMix64: small, fast, and the same on every machine.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    /// - Parameter parts: identify the sequence: a seed and numbers for its purpose.
    init(_ parts: UInt64...) {
        state = 0x9E37_79B9_7F4A_7C15
        for part in parts { state = Self.mix(state ^ part &* 0xD6E8_FEB8_6659_FD93) }
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return Self.mix(state)
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var value = value
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    /// A name as servers give to sources: a UUID of version 4.
    mutating func sourceName() -> String {
        let digits = String(next() | 1 << 63, radix: 16) + String(next() | 1 << 63, radix: 16)
        var name = ""
        for (place, digit) in digits.enumerated() {
            if [8, 12, 16, 20].contains(place) { name += "-" }
            name.append(place == 12 ? "4" : place == 16 ? "8" : digit)
        }
        return name
    }

    mutating func chance(_ percent: Int) -> Bool { Int(next() % 100) < percent }

    mutating func pick(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(next() % UInt64(range.upperBound - range.lowerBound + 1))
    }

    mutating func pick<Element>(_ elements: [Element]) -> Element { elements[pick(0...elements.count - 1)] }
}
