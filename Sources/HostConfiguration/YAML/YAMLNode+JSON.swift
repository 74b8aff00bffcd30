extension YAMLNode {
    /// Returns the tree as JSON (RFC 8259) without white space. Equal values give equal text, regardless of positions
    /// and the order of keys.
    ///
    /// Keys are sorted by their bytes. Integers keep all their digits; numbers are the shortest text that reads back to
    /// the same value.
    ///
    /// - Precondition: no number is infinite or NaN, which JSON cannot represent (see ``firstWithoutJSON()``).
    func canonicalJSON() -> String {
        var text = ""
        writeJSON(to: &text)
        return text
    }

    /// Returns the first value that JSON cannot represent: an infinite number or NaN.
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
        case .unusable: text += "null"  // Never used: a configuration with an unusable value is rejected.
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

/// Appends `string` in quotes with only the escapes that RFC 8259 requires.
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
    /// Returns the first result of `transform` that is not `nil`.
    fileprivate func firstNonNil<Result>(_ transform: (Element) -> Result?) -> Result? {
        for element in self {
            if let result = transform(element) { return result }
        }
        return nil
    }
}
