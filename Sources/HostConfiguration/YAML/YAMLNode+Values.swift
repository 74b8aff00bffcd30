/// Typed getters. Each throws a ``ConfigurationError`` with the expected and the found value.
extension YAMLNode {
    /// Returns text: a quoted scalar, or a plain one that is not a number, a boolean or null.
    func string(_ expected: String = "text") throws(ConfigurationError) -> String {
        guard case .scalar(let scalar) = content else { throw mismatch(expected) }
        switch scalar.value {
        case .string: return scalar.text
        case .null: throw mismatch(expected)
        case .boolean, .integer, .number:
            throw ConfigurationError("expected \(expected), found \(found); put it in quotes", at: location)
        }
    }

    func boolean() throws(ConfigurationError) -> Bool {
        guard case .scalar(let scalar) = content, case .boolean(let value) = scalar.value else {
            throw mismatch("true or false")
        }
        return value
    }

    /// Returns an integer, signed, 64 bits.
    func integer(_ expected: String = "an integer") throws(ConfigurationError) -> Int64 {
        guard case .scalar(let scalar) = content, case .integer(let digits) = scalar.value else {
            throw mismatch(expected)
        }
        guard let value = Int64(digits) else {
            throw ConfigurationError("\(scalar.quotedText) does not fit a 64-bit integer", at: location)
        }
        return value
    }

    /// Returns a number, with or without a fraction.
    func number() throws(ConfigurationError) -> Double {
        guard case .scalar(let scalar) = content else { throw mismatch("a number") }
        switch scalar.value {
        case .number(let value): return value
        case .integer(let digits):
            if let value = Double(digits), value.isFinite { return value }
            throw ConfigurationError("\(scalar.quotedText) is too large for a number", at: location)
        case .null, .boolean, .string: throw mismatch("a number")
        }
    }

    /// Returns a duration in the notation of ``ValueGrammar/duration(_:)``.
    func duration(_ expected: String = "a duration such as 30s") throws(ConfigurationError) -> Duration {
        let text = try quantity(expected)
        do {
            return try ValueGrammar.duration(text)
        } catch {
            throw isShown ? ConfigurationError("expected \(expected): \(error)", at: location) : mismatch(expected)
        }
    }

    /// Returns a size in bytes in the notation of ``ValueGrammar/size(_:)``.
    func size(_ expected: String = "a size such as 64KiB") throws(ConfigurationError) -> UInt64 {
        let text = try quantity(expected)
        do {
            return try ValueGrammar.size(text)
        } catch {
            throw isShown ? ConfigurationError("expected \(expected): \(error)", at: location) : mismatch(expected)
        }
    }

    /// Returns a file system path that is not empty. A relative one is resolved against `folder`.
    func path(relativeTo folder: String) throws(ConfigurationError) -> String {
        let text = try string("a path")
        guard !text.isEmpty, !text.utf8.contains(0) else {
            throw ConfigurationError("expected a path, found \(found)", at: location)
        }
        // The bytes of the file are those of the path.
        let path = String(systemBytes: text.utf8)
        if path.hasPrefix("/") { return path }
        return folder.hasSuffix("/") ? folder + path : "\(folder)/\(path)"
    }

    /// Whether messages may show the value.
    var isShown: Bool {
        if case .scalar(let scalar) = content { scalar.shown == nil } else { true }
    }

    func list(_ expected: String = "a list") throws(ConfigurationError) -> [YAMLNode] {
        guard case .list(let elements) = content else { throw mismatch(expected) }
        return elements
    }

    func mapping(_ expected: String = "a mapping") throws(ConfigurationError) -> [YAMLEntry] {
        guard case .mapping(let entries) = content else { throw mismatch(expected) }
        return entries
    }

    /// Returns the error "expected …, found …" at this node.
    func mismatch(_ expected: String) -> ConfigurationError {
        ConfigurationError("expected \(expected), found \(found)", at: location)
    }

    /// Returns the text of a duration or a size: a string, or an integer as written.
    private func quantity(_ expected: String) throws(ConfigurationError) -> String {
        guard case .scalar(let scalar) = content else { throw mismatch(expected) }
        switch scalar.value {
        case .string, .integer: return scalar.text
        case .null, .boolean, .number: throw mismatch(expected)
        }
    }
}
