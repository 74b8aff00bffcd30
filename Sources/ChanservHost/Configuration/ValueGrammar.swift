/// How durations and sizes are written, in the host's own keys and through the getters plugins use.
public enum ValueGrammar {
    /// Why a text is not a duration or not a size.
    public struct Problem: Error, Sendable, Hashable, CustomStringConvertible {
        /// A phrase that names the text, e.g. `'30' has no unit (h, m, s, ms, us or ns)`.
        public var description: String

        public init(_ description: String) {
            self.description = description
        }
    }

    /// The units of durations, longest first, with their length in nanoseconds.
    static let durationUnits: [(name: String, nanoseconds: UInt64)] = [
        ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000),
        ("ns", 1),
    ]

    /// The units of sizes, with their length in bytes.
    static let sizeUnits: [(name: String, bytes: UInt64)] = [
        ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("kB", 1_000),
        ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000),
    ]

    /// Reads a duration: whole numbers with units `h`, `m`, `s`, `ms`, `us`, `ns`, from the longest unit to the
    /// shortest, each at most once (`250ms`, `30s`, `1h30m`), or `0`.
    ///
    /// - Returns: at most 2⁶³ − 1 nanoseconds (292 years), so that it fits the `int64_t` of the plugin ABI.
    /// - Throws: ``Problem`` when `text` is written differently or the value is larger.
    public static func duration(_ text: some StringProtocol) throws(Problem) -> Duration {
        if text == "0" { return .zero }
        var rest = Substring(text)
        var total: UInt64 = 0
        var nextUnit = 0
        repeat {
            let (digits, unit) = try component(&rest)
            guard !unit.isEmpty else {
                throw Problem("\(quoted(text)) has no unit (h, m, s, ms, us or ns)")
            }
            guard let index = durationUnits.firstIndex(where: { $0.name == unit }) else {
                throw Problem(
                    "\(quoted(text)) has the unknown unit \(quoted(unit)) (known: h, m, s, ms, us, ns)")
            }
            guard index >= nextUnit else {
                throw Problem("the units in \(quoted(text)) do not go from long to short, each once")
            }
            nextUnit = index + 1
            guard let product = product(digits, durationUnits[index].nanoseconds),
                product <= UInt64(Int64.max) - total
            else { throw Problem("\(quoted(text)) is more than 292 years") }
            total += product
        } while !rest.isEmpty
        return .nanoseconds(Int64(total))
    }

    /// Reads a size in bytes: a whole number (`512`) or one with a unit, binary (`64KiB`, `100MiB`, `1GiB`, `2TiB`),
    /// decimal (`64kB`, `100MB`, `1GB`, `2TB`) or plain (`512B`).
    ///
    /// - Returns: bytes.
    /// - Throws: ``Problem`` when `text` is written differently or the value does not fit 64 bits.
    public static func size(_ text: some StringProtocol) throws(Problem) -> UInt64 {
        var rest = Substring(text)
        let (digits, unit) = try component(&rest)
        guard rest.isEmpty, let factor = unit.isEmpty ? 1 : sizeUnits.first(where: { $0.name == unit })?.bytes else {
            throw Problem(
                "\(quoted(text)) has an unknown unit (known: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)")
        }
        guard let bytes = product(digits, factor) else {
            throw Problem("\(quoted(text)) is more than 2^64 - 1 bytes")
        }
        return bytes
    }

    /// `duration` as ``duration(_:)`` reads it, e.g. `1h30m`, `250ms`, `0`; negative ones as `0`.
    public static func text(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        guard seconds >= 0, attoseconds >= 0 else { return "0" }
        var text = ""
        var rest = UInt64(seconds)
        for (unit, length) in [("h", 3_600), ("m", 60), ("s", 1)] as [(String, UInt64)] where rest >= length {
            text += "\(rest / length)\(unit)"
            rest %= length
        }
        rest = UInt64(attoseconds) / 1_000_000_000
        for (unit, length) in [("ms", 1_000_000), ("us", 1_000), ("ns", 1)] as [(String, UInt64)] where rest >= length {
            text += "\(rest / length)\(unit)"
            rest %= length
        }
        return text.isEmpty ? "0" : text
    }

    /// A size as ``size(_:)`` reads it, in the longest unit that it is a whole number of: `64KiB`, `3MB`, `1234B`, `0`.
    public static func text(bytes: some BinaryInteger) -> String {
        let bytes = UInt64(clamping: bytes)
        if bytes == 0 { return "0" }
        let exact = sizeUnits.filter { bytes.isMultiple(of: $0.bytes) }
        // Not empty: a byte is a unit.
        guard let unit = exact.max(by: { $0.bytes < $1.bytes }) else { return "\(bytes)B" }
        return "\(bytes / unit.bytes)\(unit.name)"
    }

    /// Takes a run of ASCII digits and the letters behind it from the front of `rest`.
    private static func component(_ rest: inout Substring) throws(Problem) -> (digits: Substring, unit: Substring) {
        let digits = rest.prefix(while: \.isDigit)
        guard !digits.isEmpty else { throw Problem("\(quoted(rest)) does not begin with a number") }
        rest = rest[digits.endIndex...]
        let unit = rest.prefix(while: { !$0.isDigit })
        rest = rest[unit.endIndex...]
        return (digits, unit)
    }

    /// The number `digits` stand for times `factor`, `nil` where that does not fit.
    private static func product(_ digits: Substring, _ factor: UInt64) -> UInt64? {
        guard let number = UInt64(digits) else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}

extension Character {
    /// One of the ten ASCII digits: `isNumber` alone takes digits of other scripts, which `UInt64` does not read.
    fileprivate var isDigit: Bool { isASCII && isNumber }
}
