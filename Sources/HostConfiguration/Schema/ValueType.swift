/// The type of an option's value: its name in the reference, its parser and its notation.
struct ValueType<Value>: Sendable {
    /// A noun phrase for the reference, such as `integer 1 to 256`.
    let name: String
    /// Parses a value. The text is the absolute folder that relative paths are resolved against.
    let parse: @Sendable (YAMLNode, _ folder: String) throws(ConfigurationError) -> Value
    /// Returns a value in the notation of the file, for the defaults in the reference.
    let text: @Sendable (Value) -> String

    init(
        _ name: String,
        parse: @escaping @Sendable (YAMLNode, _ folder: String) throws(ConfigurationError) -> Value,
        text: @escaping @Sendable (Value) -> String
    ) {
        self.name = name
        self.parse = parse
        self.text = text
    }

    /// Returns this type for an option that may be missing. The reference shows `none` for it.
    var optional: ValueType<Value?> {
        let (parse, text) = (parse, text)
        return ValueType<Value?>(
            name, parse: { (node, folder) throws(ConfigurationError) -> Value? in try parse(node, folder) },
            text: { $0.map(text) ?? "none" })
    }

    /// Returns this type with the values `none` and `off`, which mean no limit.
    var orNone: ValueType<Value?> {
        let (parse, text) = (parse, text)
        return ValueType<Value?>(
            "\(name), or none",
            parse: { (node, folder) throws(ConfigurationError) -> Value? in
                node.isNone ? nil : try parse(node, folder)
            },
            text: { $0.map(text) ?? "none" })
    }
}

extension ValueType<Bool> {
    static let boolean = ValueType(
        "boolean", parse: { (node, _) throws(ConfigurationError) in try node.boolean() }, text: { "\($0)" })
}

extension ValueType<Int> {
    /// An integer within a range.
    ///
    /// - Parameter expected: the noun phrase of the message for another type.
    static func integer(_ range: ClosedRange<Int>, _ expected: String = "an integer") -> ValueType {
        ValueType(
            "integer \(grouped(range.lowerBound)) to \(grouped(range.upperBound))",
            parse: { (node, _) throws(ConfigurationError) in try node.integer(in: range, expected) }, text: { "\($0)" })
    }

    /// A size within a range, in bytes.
    static func size(_ range: ClosedRange<Int>) -> ValueType {
        ValueType(
            "size \(ValueGrammar.text(bytes: range.lowerBound)) to \(ValueGrammar.text(bytes: range.upperBound))",
            parse: { (node, _) throws(ConfigurationError) in try node.size(in: range) },
            text: { ValueGrammar.text(bytes: $0) })
    }

    /// A duration in seconds. The kernel limits processor time in whole seconds.
    static let wholeSeconds = ValueType(
        "duration in whole seconds",
        parse: { (node, _) throws(ConfigurationError) in
            let duration = try node.positiveDuration("processor time")
            guard duration.components.attoseconds == 0 else {
                throw ConfigurationError("the processor time must be a whole number of seconds", at: node.location)
            }
            return Int(duration.components.seconds)
        }, text: { ValueGrammar.text(.seconds($0)) })

    /// Returns a number with a comma between thousands.
    private static func grouped(_ number: Int) -> String {
        let digits = String(number)
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index).isMultiple(of: 3) { text += "," }
            text.append(digit)
        }
        return text
    }
}

extension ValueType<Double> {
    /// A number within a range, with or without a fraction.
    static func number(_ range: ClosedRange<Double>) -> ValueType {
        let bounds = "\(text(range.lowerBound)) to \(text(range.upperBound))"
        return ValueType(
            "number \(bounds)",
            parse: { (node, _) throws(ConfigurationError) in
                let number = try node.number()
                guard range.contains(number) else {
                    throw ConfigurationError(
                        "\(text(number)) is not from \(bounds)", at: node.location)
                }
                return number
            }, text: text)
    }

    /// Returns a number without a fraction of 0.
    private static func text(_ number: Double) -> String {
        Int(exactly: number).map { "\($0)" } ?? "\(number)"
    }
}

extension ValueType<Duration> {
    /// A duration; 0 is valid.
    static let duration = ValueType(
        "duration", parse: { (node, _) throws(ConfigurationError) in try node.boundedDuration() },
        text: { ValueGrammar.text($0) })

    /// A duration of more than 0.
    ///
    /// - Parameters:
    ///   - what: names the value in the message for 0.
    ///   - minimum: the minimum and the reason for it.
    ///   - expected: the noun phrase of the message for another type.
    static func positiveDuration(
        _ what: String, minimum: (duration: Duration, reason: String)? = nil,
        _ expected: String = "a duration such as 30s"
    ) -> ValueType {
        ValueType(
            minimum.map { "duration, at least \(ValueGrammar.text($0.duration))" } ?? "duration, more than 0",
            parse: { (node, _) throws(ConfigurationError) in
                let duration = try node.positiveDuration(what, expected)
                if let minimum, duration < minimum.duration {
                    throw ConfigurationError(
                        "the \(what) must be at least \(ValueGrammar.text(minimum.duration)): \(minimum.reason)",
                        at: node.location)
                }
                return duration
            }, text: { ValueGrammar.text($0) })
    }
}

extension ValueType<Duration?> {
    /// A duration of more than 0, or none.
    static let timeout = ValueType<Duration>.positiveDuration("timeout", "a duration such as 30s, or none").orNone
        .named("duration, or none")

    /// Returns this type with another name in the reference.
    private func named(_ name: String) -> ValueType { ValueType(name, parse: parse, text: text) }
}

extension ValueType<String> {
    /// A file system path. A relative one is resolved against the folder of the file.
    static let path = ValueType(
        "path", parse: { (node, folder) throws(ConfigurationError) in try node.path(relativeTo: folder) },
        text: { $0 })

    /// Text that is sent as a service name or as a part of one.
    static func serviceName(_ expected: String) -> ValueType {
        ValueType(
            "text, 1 to \(longestServiceName) bytes",
            parse: { (node, _) throws(ConfigurationError) in try node.serviceName(expected) }, text: { $0 })
    }

    /// Any text.
    static func text(_ expected: String) -> ValueType {
        ValueType(
            "text", parse: { (node, _) throws(ConfigurationError) in try node.string(expected) }, text: { $0 })
    }
}

extension ValueType<[String]> {
    /// A list of names of environment variables.
    static let variableNames = ValueType(
        "list of names",
        parse: { (node, _) throws(ConfigurationError) in
            var names: [String] = []
            for element in try node.list("a list of names of environment variables") {
                let name = try element.string()
                guard !name.isEmpty, !name.utf8.contains(where: { $0 == UInt8(ascii: "=") || $0 == 0 }) else {
                    throw ConfigurationError(
                        "\(quoted(name)) is not a name of an environment variable", at: element.location)
                }
                names.append(name)
            }
            return names
        }, text: { "[\($0.joined(separator: ", "))]" })
}

extension ValueType where Value: RawRepresentable & CaseIterable & Sendable, Value.RawValue == String {
    /// One of the cases of an enumeration.
    ///
    /// - Parameter noun: names the value in messages, with its article: `a role`.
    static func oneOf(_ noun: (article: String, name: String)) -> ValueType {
        let names = Value.allCases.map(\.rawValue)
        let known = names.joined(separator: ", ")
        return ValueType(
            names.map { "`\($0)`" }.joined(separator: " or "),
            parse: { (node, _) throws(ConfigurationError) in
                let expected = "\(noun.article) \(noun.name) (\(known))"
                let text = try node.string(expected)
                guard let value = Value(rawValue: text) else {
                    guard node.isShown else { throw node.mismatch(expected) }
                    let hint = NearestKey.hint(text, among: names)
                    throw ConfigurationError(
                        "unknown \(noun.name) \(quoted(text))" + (hint.isEmpty ? " (known: \(known))" : hint),
                        at: node.location)
                }
                return value
            }, text: { $0.rawValue })
    }
}
