/// Reads keys and values and collects what is wrong with them, so that one pass finds everything.
///
/// What the sections mean is in the extensions; here is what they share. A value with a problem is reported once and
/// left at its default.
struct ConfigurationReader {
    /// In the order in which they were found.
    private(set) var problems: [ConfigurationError]

    init(problems: [ConfigurationError] = []) {
        self.problems = problems
    }

    mutating func report(_ message: String, at location: ConfigurationLocation) {
        problems.append(ConfigurationError(message, at: location))
    }

    /// The result of `body`, `nil` where it threw, which is reported.
    mutating func attempt<Value>(_ body: () throws(ConfigurationError) -> Value) -> Value? {
        do {
            return try body()
        } catch {
            problems.append(error)
            return nil
        }
    }

    /// The value of `key`, read by `body`; `nil` where the key is absent or its value wrong, which is reported.
    mutating func value<Value>(
        _ key: String, in entries: Entries, _ body: (YAMLNode) throws(ConfigurationError) -> Value
    ) -> Value? {
        guard let entry = entries[key] else { return nil }
        if case .unusable = entry.value.content { return nil }
        return attempt { () throws(ConfigurationError) in try body(entry.value) }
    }

    /// The keys of a mapping by name.
    typealias Entries = [String: YAMLEntry]

    /// The entries of a mapping that has only keys of `known`; each other one is reported. Empty where the node is
    /// null (a section with everything commented out); empty and reported where it is no mapping.
    ///
    /// - Parameter elsewhere: keys that are known in another place, with the words that say in which.
    mutating func section(
        _ node: YAMLNode, _ name: String, known: [String], elsewhere: [String: String] = [:]
    ) -> Entries {
        if case .unusable = node.content { return [:] }
        if node.isNull { return [:] }
        let expected = "a mapping with \(name) (\(known.joined(separator: ", ")))"
        guard let entries = attempt({ () throws(ConfigurationError) in try node.mapping(expected) }) else { return [:] }
        var result: Entries = [:]
        for entry in entries {
            if known.contains(entry.key) {
                result[entry.key] = entry
            } else {
                var hint = NearestKey.hint(entry.key, among: known)
                if let place = elsewhere[entry.key] { hint = ": it belongs \(place)" }
                if hint.isEmpty { hint = " (known: \(known.joined(separator: ", ")))" }
                report("unknown key \(quoted(entry.key))" + hint, at: entry.keyLocation)
            }
        }
        return result
    }

    /// A duration, or `none` or `off` for none. `.some(nil)` is none, `nil` was reported or is absent.
    mutating func optionalDuration(_ key: String, in entries: Entries) -> Duration?? {
        value(key, in: entries) { (node) throws(ConfigurationError) -> Duration? in
            if node.saysNone { return nil }
            return try node.positiveDuration("timeout", "a duration such as 30s, or none")
        }
    }

    /// A whole number within `range`.
    mutating func integer(_ key: String, in entries: Entries, _ range: ClosedRange<Int>) -> Int? {
        value(key, in: entries) { (node) throws(ConfigurationError) in try node.integer(in: range) }
    }
}

extension YAMLNode {
    /// `none` or `off`: no timeout, no limit.
    var saysNone: Bool {
        guard case .scalar(let scalar) = content else { return false }
        return scalar.value == .string && (scalar.text == "none" || scalar.text == "off")
    }

    /// A duration of the host's own keys: at most a year, so that no sum with a clock comes near an overflow.
    func boundedDuration(_ expected: String = "a duration such as 30s") throws(ConfigurationError) -> Duration {
        let duration = try duration(expected)
        guard duration <= .seconds(8_760 * 3_600) else {
            throw ConfigurationError("\(ValueGrammar.text(duration)) is more than a year (8760h)", at: location)
        }
        return duration
    }

    /// As ``boundedDuration(_:)``, and more than 0. `what` is what the value is called.
    func positiveDuration(
        _ what: String, _ expected: String = "a duration such as 30s"
    ) throws(ConfigurationError) -> Duration {
        let duration = try boundedDuration(expected)
        guard duration > .zero else { throw ConfigurationError("a \(what) is more than 0", at: location) }
        return duration
    }

    /// A size of the host's own keys, in bytes.
    func size(in range: ClosedRange<Int>) throws(ConfigurationError) -> Int {
        let bytes = try size()
        guard let value = Int(exactly: bytes), range.contains(value) else {
            throw ConfigurationError(
                "\(ValueGrammar.text(bytes: bytes)) is not from \(ValueGrammar.text(bytes: range.lowerBound)) to "
                    + ValueGrammar.text(bytes: range.upperBound), at: location)
        }
        return value
    }

    func integer(
        in range: ClosedRange<Int>, _ expected: String = "an integer"
    ) throws(ConfigurationError) -> Int {
        let value = try integer(expected)
        guard let value = Int(exactly: value), range.contains(value) else {
            throw ConfigurationError("\(value) is not from \(range.lowerBound) to \(range.upperBound)", at: location)
        }
        return value
    }
}
