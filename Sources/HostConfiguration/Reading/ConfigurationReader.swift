/// Reads keys and values and collects their errors, so that one pass finds all of them.
///
/// The extensions read the sections; this file has what they share. A wrong value is reported once, and its option
/// keeps the default.
struct ConfigurationReader {
    /// The errors in the order in which they were found.
    var problems: [ConfigurationError]
    /// The files that were read so far.
    var source = ConfigurationSource()
    /// The absolute folder that relative paths are resolved against: that of the file that is read.
    var folder: String
    /// The addresses of `node.listen`; `nil` if they are wrong.
    var listenAddresses: [HostAddress]?
    /// Whether the file has the section `access`.
    var hasAccess = false
    /// The names of `access.identities`, also of invalid ones; `nil` if they are wrong as a whole.
    var identityNames: [String]?

    init(problems: [ConfigurationError], folder: String) {
        self.problems = problems
        self.folder = folder
    }

    mutating func report(_ message: String, at location: ConfigurationLocation) {
        problems.append(ConfigurationError(message, at: location))
    }

    /// Returns the result of `body`. If it throws, reports the error and returns `nil`.
    mutating func attempt<Value>(_ body: () throws(ConfigurationError) -> Value) -> Value? {
        do {
            return try body()
        } catch {
            problems.append(error)
            return nil
        }
    }

    /// Returns the value of an entry, or `nil` if it is wrong, which is reported.
    mutating func value<Value>(_ entry: YAMLEntry, _ type: ValueType<Value>) -> Value? {
        if case .unusable = entry.value.content { return nil }
        let folder = folder
        return attempt { () throws(ConfigurationError) in try type.parse(entry.value, folder) }
    }

    /// The entries of a mapping by key.
    typealias Entries = [String: YAMLEntry]

    /// Reads the options of a mapping into `target` and reports keys that are not in the schema. Returns the known
    /// entries; none if the node is null (a section with all keys commented out) or no mapping, which is reported.
    mutating func section<Target>(
        _ node: YAMLNode, _ schema: OptionSection<Target>, into target: inout Target
    ) -> Entries {
        let entries = entries(node, schema.name, known: schema.keys, elsewhere: schema.elsewhere)
        for option in schema.options {
            if let entry = entries[option.key] { option.read(&self, entry, &target) }
        }
        schema.check(&self, entries, &target)
        return entries
    }

    /// Returns the entries of a mapping by key and reports keys that are not in `known`.
    ///
    /// - Parameter elsewhere: see ``OptionSection/elsewhere``.
    mutating func entries(
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
}

extension YAMLNode {
    /// Whether the value is `none` or `off`, which switches a timeout or a limit off.
    var isNone: Bool {
        guard case .scalar(let scalar) = content else { return false }
        return scalar.value == .string && (scalar.text == "none" || scalar.text == "off")
    }

    /// Returns a duration for a key of the host: at most a year, so that adding it to a clock never overflows.
    func boundedDuration(_ expected: String = "a duration such as 30s") throws(ConfigurationError) -> Duration {
        let duration = try duration(expected)
        guard duration <= .seconds(8_760 * 3_600) else {
            throw ConfigurationError("\(ValueGrammar.text(duration)) is more than a year (8760h)", at: location)
        }
        return duration
    }

    /// Returns a duration of at most a year and more than 0. `what` names the value in the error message.
    func positiveDuration(
        _ what: String, _ expected: String = "a duration such as 30s"
    ) throws(ConfigurationError) -> Duration {
        let duration = try boundedDuration(expected)
        guard duration > .zero else { throw ConfigurationError("the \(what) must be more than 0", at: location) }
        return duration
    }

    /// Returns a size for a key of the host, in bytes.
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
