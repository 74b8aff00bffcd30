/// The notation of durations and sizes, for keys of the host and for the getters of plugins.
public enum ValueGrammar {
    /// The reason why a text is not a duration or not a size.
    public struct Problem: Error, Sendable, Hashable, CustomStringConvertible {
        /// A phrase that contains the text, such as `'30' has no unit (h, m, s, ms, us or ns)`.
        public var description: String

        public init(_ description: String) {
            self.description = description
        }
    }

    /// The units of durations, longest first, in nanoseconds.
    static let durationUnits: [(name: String, nanoseconds: UInt64)] = [
        ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000),
        ("ns", 1),
    ]

    /// The units of sizes, in bytes.
    static let sizeUnits: [(name: String, bytes: UInt64)] = [
        ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("kB", 1_000),
        ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000),
    ]

    /// Parses a duration: `0`, or whole numbers with the units `h`, `m`, `s`, `ms`, `us`, `ns`, from the longest unit
    /// to the shortest, each at most once (`250ms`, `30s`, `1h30m`).
    ///
    /// - Returns: at most 2⁶³ − 1 nanoseconds (292 years), which fits the `int64_t` of the plugin ABI.
    /// - Throws: ``Problem`` if `text` has another form or the value is larger.
    public static func duration(_ text: some StringProtocol) throws(Problem) -> Duration {
        if text == "0" { return .zero }
        if let mistake = durationMistake(String(text)) { throw mistake }
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

    /// Parses a size: a whole number of bytes (`512`), or one with a unit: binary (`64KiB`, `100MiB`, `1GiB`, `2TiB`),
    /// decimal (`64kB`, `100MB`, `1GB`, `2TB`) or bytes (`512B`).
    ///
    /// - Returns: the size in bytes.
    /// - Throws: ``Problem`` if `text` has another form or the value does not fit 64 bits.
    public static func size(_ text: some StringProtocol) throws(Problem) -> UInt64 {
        if let mistake = sizeMistake(String(text)) { throw mistake }
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

    /// Returns the problem of a duration in the notation of other programs, with the right form.
    private static func durationMistake(_ text: String) -> Problem? {
        if let match = text.wholeMatch(of: #/-(\d.*)/#) {
            return (try? duration(match.output.1)).map { _ in Problem("\(quoted(text)) is negative") }
        }
        if let joined = withoutSpaces(text), (try? duration(joined)) != nil {
            return Problem("\(quoted(text)) has spaces in it (no spaces: write \(joined))")
        }
        if let match = text.wholeMatch(of: #/(\d{1,5})d/#), let days = UInt64(match.output.1), days > 0 {
            return Problem("\(quoted(text)) has the unknown unit 'd' (write \(days * 24)h)")
        }
        guard let match = text.wholeMatch(of: #/(\d{1,9})\.(\d{1,9})(h|m|s|ms|us)/#),
            let unit = durationUnits.first(where: { $0.name == match.output.3 })?.nanoseconds,
            let whole = UInt64(match.output.1), let fraction = UInt64(match.output.2)
        else { return nil }
        let divisor = (0..<match.output.2.count).reduce(into: UInt64(1)) { power, _ in power *= 10 }
        let rest = fraction.multipliedReportingOverflow(by: unit)
        let hint: String
        if rest.overflow || !rest.partialValue.isMultiple(of: divisor) {
            hint = ""
        } else {
            let (total, overflow) = (whole * unit).addingReportingOverflow(rest.partialValue / divisor)
            guard !overflow, total > 0, total <= UInt64(Int64.max) else { return nil }
            hint = ": write \(self.text(.nanoseconds(Int64(total))))"
        }
        return Problem("\(quoted(text)) has a fraction (whole numbers only\(hint))")
    }

    /// Returns the problem of a size in the notation of other programs, with the right form.
    private static func sizeMistake(_ text: String) -> Problem? {
        if let joined = withoutSpaces(text), (try? size(joined)) != nil {
            return Problem("\(quoted(text)) has spaces in it (no spaces: write \(joined))")
        }
        guard let match = text.wholeMatch(of: #/(\d{1,9})([kKmMgGtT])([bB]?)/#),
            sizeUnits.first(where: { $0.name == match.output.2 + match.output.3 }) == nil,
            let number = UInt64(match.output.1)
        else { return nil }
        let letter = match.output.2.uppercased()
        let (binary, decimal) = ("\(number)\(letter)iB", "\(number)\(letter == "K" ? "k" : letter)B")
        guard let left = try? size(binary), let right = try? size(decimal) else { return nil }
        return Problem(
            "\(quoted(text)) has an unknown unit; did you mean \(binary) (\(left)) or \(decimal) (\(right))?")
    }

    /// Returns the text without spaces; `nil` if it has none.
    private static func withoutSpaces(_ text: String) -> String? {
        let joined = text.filter { $0 != " " }
        return joined.count == text.count ? nil : joined
    }

    /// Returns a duration in the notation of ``duration(_:)``, e.g. `1h30m`, `250ms`, `0`. A negative duration is `0`.
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

    /// Returns a size in the notation of ``size(_:)``, in the largest unit that divides it: `64KiB`, `3MB`, `1234B`,
    /// `0`.
    public static func text(bytes: some BinaryInteger) -> String {
        let bytes = UInt64(clamping: bytes)
        if bytes == 0 { return "0" }
        let exact = sizeUnits.filter { bytes.isMultiple(of: $0.bytes) }
        // Never empty: the list contains the unit of one byte.
        guard let unit = exact.max(by: { $0.bytes < $1.bytes }) else { return "\(bytes)B" }
        return "\(bytes / unit.bytes)\(unit.name)"
    }

    /// Removes leading ASCII digits and the letters after them from `rest` and returns both.
    private static func component(_ rest: inout Substring) throws(Problem) -> (digits: Substring, unit: Substring) {
        let digits = rest.prefix(while: \.isDigit)
        guard !digits.isEmpty else { throw Problem("\(quoted(rest)) does not begin with a number") }
        rest = rest[digits.endIndex...]
        let unit = rest.prefix(while: { !$0.isDigit })
        rest = rest[unit.endIndex...]
        return (digits, unit)
    }

    /// Returns the product of the number in `digits` and `factor`, or `nil` if it does not fit 64 bits.
    private static func product(_ digits: Substring, _ factor: UInt64) -> UInt64? {
        guard let number = UInt64(digits) else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }
}

extension Character {
    /// Whether this is an ASCII digit. `isNumber` also accepts digits of other scripts, which `UInt64` cannot parse.
    fileprivate var isDigit: Bool { isASCII && isNumber }
}
