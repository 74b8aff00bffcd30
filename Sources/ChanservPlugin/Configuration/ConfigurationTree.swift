/// The structure of the configuration, parsed from the host's JSON: its keys, the lengths of its lists, and its values.
/// The values are used only for keys that cannot be written as a getter's path.
enum ConfigurationTree {
    case null
    case boolean(Bool)
    /// The number as it is written.
    case number(String)
    case text(String)
    case list([ConfigurationTree])
    case mapping([(key: String, value: ConfigurationTree)])

    /// Maximum nesting. The host accepts no configuration this deep.
    private static let depthMax = 256

    /// - Parameter json: RFC 8259.
    init(json: String) throws(PluginError) {
        var parser = Parser(bytes: Array(json.utf8))
        self = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.rest.isEmpty else { throw parser.failure("unexpected text after the end") }
    }

    /// The value of a key; `nil` if the key is absent or its value is null.
    subscript(key: String) -> ConfigurationTree? {
        guard case .mapping(let entries) = self, let value = entries.first(where: { $0.key == key })?.value,
            !value.isNull
        else { return nil }
        return value
    }

    var isNull: Bool {
        if case .null = self { true } else { false }
    }

    /// A description of the value for messages.
    var kind: String {
        switch self {
        case .null: "nothing"
        case .boolean(let value): "\(value)"
        case .number(let digits): "the number \(digits)"
        case .text(let text): "the text '\(text)'"
        case .list: "a list"
        case .mapping: "a mapping"
        }
    }

    private struct Parser {
        let bytes: [UInt8]
        var at = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        var rest: ArraySlice<UInt8> { bytes[at...] }

        func failure(_ what: String) -> PluginError {
            PluginError(.internal, "the host's JSON of the configuration is wrong at byte \(at): \(what)")
        }

        mutating func skipSpace() {
            while let byte = rest.first, [0x20, 0x09, 0x0A, 0x0D].contains(byte) { at += 1 }
        }

        /// Consumes `character` if it is next, and returns whether it was.
        mutating func take(_ character: Unicode.Scalar) -> Bool {
            skipSpace()
            guard rest.first == UInt8(ascii: character) else { return false }
            at += 1
            return true
        }

        mutating func value(depth: Int) throws(PluginError) -> ConfigurationTree {
            guard depth < depthMax else { throw failure("it is nested too deeply") }
            if take("{") {
                var entries: [(key: String, value: ConfigurationTree)] = []
                if take("}") { return .mapping(entries) }
                repeat {
                    guard take("\"") else { throw failure("expected a key") }
                    let key = try string()
                    guard take(":") else { throw failure("expected ':'") }
                    entries.append((key, try value(depth: depth + 1)))
                } while take(",")
                guard take("}") else { throw failure("expected '}'") }
                return .mapping(entries)
            }
            if take("[") {
                var elements: [ConfigurationTree] = []
                if take("]") { return .list(elements) }
                repeat { elements.append(try value(depth: depth + 1)) } while take(",")
                guard take("]") else { throw failure("expected ']'") }
                return .list(elements)
            }
            if take("\"") { return .text(try string()) }
            let word = rest.prefix { !Array(",]} \t\r\n".utf8).contains($0) }
            at = word.endIndex
            switch String(decoding: word, as: UTF8.self) {
            case "null": return .null
            case "true": return .boolean(true)
            case "false": return .boolean(false)
            case let word where Double(word) != nil: return .number(word)
            case let word: throw failure("'\(word)' is not a value")
            }
        }

        /// Parses a string after its opening quotation mark.
        private mutating func string() throws(PluginError) -> String {
            var text: [UInt8] = []
            while let byte = rest.first {
                at += 1
                switch byte {
                case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
                case UInt8(ascii: "\\"): try text.append(contentsOf: String(escape()).utf8)
                default: text.append(byte)
                }
            }
            throw failure("unterminated string")
        }

        /// Parses an escape sequence after its backslash.
        private mutating func escape() throws(PluginError) -> Unicode.Scalar {
            guard let byte = rest.first else { throw failure("unterminated string") }
            at += 1
            switch Unicode.Scalar(byte) {
            case "b": return "\u{8}"
            case "f": return "\u{C}"
            case "n": return "\n"
            case "r": return "\r"
            case "t": return "\t"
            case "u":
                var code = try unit()
                if (0xD800..<0xDC00).contains(code), rest.starts(with: Array("\\u".utf8)) {
                    at += 2
                    let low = try unit()
                    guard (0xDC00..<0xE000).contains(low) else { throw failure("incomplete surrogate pair") }
                    code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
                }
                guard let scalar = Unicode.Scalar(code) else { throw failure("incomplete surrogate pair") }
                return scalar
            case let other: return other  // a quotation mark, a backslash, a slash
            }
        }

        private mutating func unit() throws(PluginError) -> UInt32 {
            let digits = rest.prefix(4)
            guard digits.count == 4, let unit = UInt32(String(decoding: digits, as: UTF8.self), radix: 16) else {
                throw failure("expected four hexadecimal digits after \\u")
            }
            at += 4
            return unit
        }
    }
}
