/// A scalar: its text and its value under the core schema of YAML 1.2.
package struct YAMLScalar: Sendable, Hashable {
    package enum Value: Sendable, Hashable {
        case null
        case boolean(Bool)
        /// An integer of any length, in decimal, with a leading `-` if it is negative and without leading zeros.
        case integer(String)
        /// A number; may be infinite or NaN.
        case number(Double)
        case string
    }

    /// The text without quotes and escapes.
    package let text: String
    package let value: Value
    /// The text in the file if ``text`` comes from a variable or a file, which may contain a secret: messages show this
    /// text. Otherwise `nil`.
    package let shown: String?

    /// Creates a quoted scalar, or one with the tag `!!str`.
    package init(string text: String, shown: String? = nil) {
        self.text = text
        self.shown = shown
        value = .string
    }

    /// Creates a plain scalar, whose type follows from its form.
    package init(plain text: String, shown: String? = nil) {
        self.text = text
        self.shown = shown
        value = Self.resolve(text)
    }

    /// The text for messages, in quotes.
    var quotedText: String { quoted(shown ?? text) }

    /// Two scalars are equal if their values are, whatever they come from.
    package static func == (first: YAMLScalar, second: YAMLScalar) -> Bool {
        first.text == second.text && first.value == second.value
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(text)
        hasher.combine(value)
    }

    /// Resolves a plain scalar by section 10.3.2 of the YAML 1.2.2 specification: `yes`, `on` and `off` are strings.
    private static func resolve(_ text: String) -> Value {
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return .boolean(true)
        case "false", "False", "FALSE": return .boolean(false)
        case ".nan", ".NaN", ".NAN": return .number(.nan)
        default: break
        }
        let bytes = Array(text.utf8)
        // Most scalars are texts; their first character decides.
        guard let first = bytes.first, isDigit(first) || "+-.".utf8.contains(first) else { return .string }
        if let digits = integer(bytes) { return .integer(digits) }
        if let number = number(bytes) { return .number(number) }
        return .string
    }

    /// Parses `[-+]?[0-9]+`, `0o[0-7]+` and `0x[0-9a-fA-F]+`. The latter two are integers up to 64 bits, and strings
    /// beyond.
    private static func integer(_ bytes: [UInt8]) -> String? {
        let radix = bytes.starts(with: "0o".utf8) ? 8 : bytes.starts(with: "0x".utf8) ? 16 : 10
        if radix != 10, bytes.count > 2 {
            // UInt64(_:radix:) would accept a sign, which the schema does not allow after the prefix.
            guard !"+-".utf8.contains(bytes[2]) else { return nil }
            return UInt64(String(decoding: bytes[2...], as: UTF8.self), radix: radix).map { String($0) }
        }
        let negative = bytes[0] == UInt8(ascii: "-")
        let digits = negative || bytes[0] == UInt8(ascii: "+") ? bytes[1...] : bytes[...]
        guard !digits.isEmpty, digits.allSatisfy(isDigit) else { return nil }
        let significant = digits.drop { $0 == UInt8(ascii: "0") }
        guard !significant.isEmpty else { return "0" }
        return (negative ? "-" : "") + String(decoding: significant, as: UTF8.self)
    }

    /// Parses `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?` and `[-+]?(\.inf|\.Inf|\.INF)`.
    private static func number(_ bytes: [UInt8]) -> Double? {
        var rest = bytes[...]
        let negative = rest.first == UInt8(ascii: "-")
        if negative || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
        if [".inf", ".Inf", ".INF"].contains(where: { rest.elementsEqual($0.utf8) }) {
            return negative ? -.infinity : .infinity
        }
        let whole = rest.prefix(while: isDigit)
        rest = rest.dropFirst(whole.count)
        var fraction: ArraySlice<UInt8> = []
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            fraction = rest.prefix(while: isDigit)
            rest = rest.dropFirst(fraction.count)
        }
        guard !whole.isEmpty || !fraction.isEmpty else { return nil }
        var exponent = ""
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest = rest.dropFirst()
            if let sign = rest.first, "+-".utf8.contains(sign) {
                exponent = String(UnicodeScalar(sign))
                rest = rest.dropFirst()
            }
            let digits = rest.prefix(while: isDigit)
            guard !digits.isEmpty else { return nil }
            exponent += String(decoding: digits, as: UTF8.self)
            rest = rest.dropFirst(digits.count)
        }
        guard rest.isEmpty else { return nil }
        // Double(_:) requires digits on both sides of the point. Other forms that it accepts were rejected above.
        func text(_ digits: ArraySlice<UInt8>) -> String {
            digits.isEmpty ? "0" : String(decoding: digits, as: UTF8.self)
        }
        return Double("\(negative ? "-" : "")\(text(whole)).\(text(fraction))e\(exponent.isEmpty ? "0" : exponent)")
    }

    private static func isDigit(_ byte: UInt8) -> Bool { UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte }
}
