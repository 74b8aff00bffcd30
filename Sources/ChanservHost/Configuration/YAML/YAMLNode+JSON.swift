extension YAMLNode {
    /// The tree as JSON (RFC 8259) without white space: the same text for the same values, wherever they stand and in
    /// whatever order the keys were written.
    ///
    /// Keys are sorted by their bytes. Integers keep all their digits, numbers are the shortest text that reads back
    /// the same.
    ///
    /// - Precondition: no number is infinite or not a number, which JSON cannot say (see ``firstWithoutJSON()``).
    func canonicalJSON() -> String {
        var text = ""
        writeJSON(to: &text)
        return text
    }

    /// The first value JSON has no notation for: an infinite number, or one that is none.
    func firstWithoutJSON() -> YAMLNode? {
        switch content {
        case .scalar(let scalar):
            if case .number(let value) = scalar.value, !value.isFinite { self } else { nil }
        case .list(let elements): elements.firstNonNil { $0.firstWithoutJSON() }
        case .mapping(let entries): entries.firstNonNil { $0.value.firstWithoutJSON() }
        case .unusable: nil
        }
    }

    private func writeJSON(to text: inout String) {
        switch content {
        case .scalar(let scalar): scalar.writeJSON(to: &text)
        case .unusable: text += "null"  // The configuration it is part of was refused already.
        case .list(let elements):
            text += "["
            for (index, element) in elements.enumerated() {
                if index > 0 { text += "," }
                element.writeJSON(to: &text)
            }
            text += "]"
        case .mapping(let entries):
            text += "{"
            let sorted = entries.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
            for (index, entry) in sorted.enumerated() {
                if index > 0 { text += "," }
                writeJSONString(entry.key, to: &text)
                text += ":"
                entry.value.writeJSON(to: &text)
            }
            text += "}"
        }
    }
}

extension YAMLScalar {
    fileprivate func writeJSON(to json: inout String) {
        switch value {
        case .null: json += "null"
        case .boolean(let value): json += value ? "true" : "false"
        case .integer(let digits): json += digits
        case .number(let value):
            precondition(value.isFinite, "JSON has no notation for \(value)")
            json += "\(value)"
        case .string: writeJSONString(text, to: &json)
        }
    }
}

/// `string` in quotes, with the escapes RFC 8259 requires and no others.
private func writeJSONString(_ string: String, to text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
        switch scalar {
        case "\"": text += "\\\""
        case "\\": text += "\\\\"
        case "\n": text += "\\n"
        case "\r": text += "\\r"
        case "\t": text += "\\t"
        case "\u{0}"..."\u{1f}":
            let digits = String(scalar.value, radix: 16)
            text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: text.unicodeScalars.append(scalar)
        }
    }
    text += "\""
}

extension Sequence {
    /// The first result of `transform` that is not `nil`.
    fileprivate func firstNonNil<Result>(_ transform: (Element) -> Result?) -> Result? {
        for element in self {
            if let result = transform(element) { return result }
        }
        return nil
    }
}
