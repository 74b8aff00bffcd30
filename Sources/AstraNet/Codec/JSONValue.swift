/// A JSON value (RFC 8259). The parser is strict and needs no Foundation. On links, only handshakes contain JSON.
package enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    /// The number as text, unchanged.
    case number(String)
    case string(String)
    indirect case array([JSONValue])
    /// If a key occurs twice, the last value counts, as in Go.
    indirect case object([String: JSONValue])

    /// Parses exactly one value. Returns `nil` if `bytes` are anything else, or are nested deeper than 32 levels.
    package init?(_ bytes: some Sequence<UInt8>) {
        var reader = JSONReader(bytes)
        guard let value = reader.readValue(depth: 32), reader.isAtEnd else { return nil }
        self = value
    }

    /// Returns `text` as a JSON string with quotes.
    package static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case "\0"..<" ": quoted += "\\u00\(scalar.value < 16 ? "0" : "")\(String(scalar.value, radix: 16))"
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}

private struct JSONReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: some Sequence<UInt8>) {
        self.bytes = Array(bytes)
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    /// Whether only white space is left.
    var isAtEnd: Bool {
        mutating get {
            skipSpace()
            return next == nil
        }
    }

    mutating func readValue(depth: Int) -> JSONValue? {
        skipSpace()
        switch next {
        case UInt8(ascii: "n"): return take("null") ? .null : nil
        case UInt8(ascii: "t"): return take("true") ? .bool(true) : nil
        case UInt8(ascii: "f"): return take("false") ? .bool(false) : nil
        case UInt8(ascii: "\""): return readString().map { .string($0) }
        case UInt8(ascii: "["): return depth > 0 ? readArray(depth: depth - 1) : nil
        case UInt8(ascii: "{"): return depth > 0 ? readObject(depth: depth - 1) : nil
        default: return readNumber()
        }
    }

    private mutating func readArray(depth: Int) -> JSONValue? {
        var values: [JSONValue] = []
        let isWhole = readList(to: "]") { reader in
            guard let value = reader.readValue(depth: depth) else { return false }
            values.append(value)
            return true
        }
        return isWhole ? .array(values) : nil
    }

    private mutating func readObject(depth: Int) -> JSONValue? {
        var values: [String: JSONValue] = [:]
        let isWhole = readList(to: "}") { reader in
            reader.skipSpace()
            guard let key = reader.readString() else { return false }
            reader.skipSpace()
            guard reader.take(":"), let value = reader.readValue(depth: depth) else { return false }
            values[key] = value
            return true
        }
        return isWhole ? .object(values) : nil
    }

    /// Reads a list of elements with commas between them, including both brackets.
    private mutating func readList(to end: String, _ readElement: (inout JSONReader) -> Bool) -> Bool {
        position += 1
        skipSpace()
        if take(end) { return true }
        repeat {
            guard readElement(&self) else { return false }
            skipSpace()
        } while take(",")
        return take(end)
    }

    private mutating func readNumber() -> JSONValue? {
        let start = position
        _ = take("-")
        if !take("0"), skipDigits() == 0 { return nil }
        if take("."), skipDigits() == 0 { return nil }
        if take("e") || take("E") {
            if !take("-") { _ = take("+") }
            if skipDigits() == 0 { return nil }
        }
        return .number(String(decoding: bytes[start..<position], as: UTF8.self))
    }

    private mutating func readString() -> String? {
        guard take("\"") else { return nil }
        var text: [UInt8] = []
        while let byte = next {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(validating: text, as: UTF8.self)
            case UInt8(ascii: "\\"):
                guard let scalar = readEscaped() else { return nil }
                text += Array(String(scalar).utf8)
            case ..<0x20: return nil
            default: text.append(byte)
            }
        }
        return nil
    }

    /// Reads the rest of an escape sequence after the backslash. Returns `nil` for an invalid sequence or an unpaired
    /// surrogate.
    private mutating func readEscaped() -> Unicode.Scalar? {
        guard let byte = next else { return nil }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            guard let first = readHex() else { return nil }
            guard (0xD800..<0xDC00).contains(first) else { return Unicode.Scalar(first) }
            guard take("\\u"), let second = readHex(), (0xDC00..<0xE000).contains(second) else { return nil }
            return Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        default: return nil
        }
    }

    private mutating func readHex() -> UInt32? {
        guard position + 4 <= bytes.count else { return nil }
        let digits = bytes[position..<position + 4]
        // Swift's parser also accepts a sign.
        guard digits.allSatisfy({ Unicode.Scalar($0).properties.isASCIIHexDigit }) else { return nil }
        position += 4
        return UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
    }

    private mutating func skipDigits() -> Int {
        let start = position
        while let byte = next, (0x30...0x39).contains(byte) { position += 1 }
        return position - start
    }

    private mutating func skipSpace() {
        while let byte = next, [0x20, 0x09, 0x0A, 0x0D].contains(byte) { position += 1 }
    }

    /// Consumes `text` if it comes next. Returns whether it did.
    private mutating func take(_ text: String) -> Bool {
        let text = text.utf8
        guard bytes[position...].prefix(text.count).elementsEqual(text) else { return false }
        position += text.count
        return true
    }
}
