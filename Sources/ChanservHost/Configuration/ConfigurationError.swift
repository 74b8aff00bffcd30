/// A place in a configuration file.
public struct ConfigurationLocation: Sendable, Hashable {
    /// The file as it was named to the host.
    public var file: String
    /// Counted from 1; 0 means the file as a whole.
    public var line: Int
    /// Counted from 1, in characters (a tab counts as one); 0 means the line, or the file, as a whole.
    public var column: Int

    public init(file: String, line: Int = 0, column: Int = 0) {
        self.file = file
        self.line = line
        self.column = column
    }
}

extension ConfigurationLocation: CustomStringConvertible {
    /// `file:line:column`, the notation editors and terminals can jump to.
    public var description: String { line == 0 ? file : "\(file):\(line):\(column)" }
}

extension ConfigurationLocation: Comparable {
    public static func < (left: Self, right: Self) -> Bool {
        (left.file, left.line, left.column) < (right.file, right.line, right.column)
    }
}

/// One thing that is wrong, or doubtful, in a configuration file.
public struct ConfigurationError: Error, Sendable, Hashable {
    /// Where.
    public var location: ConfigurationLocation
    /// What, for a person, without the place.
    public var message: String

    public init(_ message: String, at location: ConfigurationLocation) {
        self.location = location
        self.message = message
    }
}

extension ConfigurationError: CustomStringConvertible {
    /// `file:line:column: message`.
    public var description: String { "\(location): \(message)" }
}

/// Everything that is wrong in a configuration file, never empty, in the order of the places.
public struct ConfigurationErrors: Error, Sendable, Hashable {
    /// At least one, sorted by place; two at the same place stand in the order in which they were found.
    public let errors: [ConfigurationError]

    /// - Parameter errors: at least one, in any order; repetitions are dropped.
    public init(_ errors: [ConfigurationError]) {
        precondition(!errors.isEmpty, "an empty list of configuration errors is no error")
        self.errors = Self.sorted(errors)
    }

    /// A stable sort by place, without repetitions.
    static func sorted(_ errors: [ConfigurationError]) -> [ConfigurationError] {
        var seen: Set<ConfigurationError> = []
        return errors.filter { seen.insert($0).inserted }.enumerated()
            .sorted { ($0.element.location, $0.offset) < ($1.element.location, $1.offset) }
            .map(\.element)
    }
}

extension ConfigurationErrors: CustomStringConvertible {
    /// One `file:line:column: message` a line.
    public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// `text` in quotes for a message: control characters escaped, cut to 60 characters, so that nothing in a file can
/// break or flood a log line.
func quoted(_ text: some StringProtocol) -> String {
    var result = "'"
    for (index, scalar) in text.unicodeScalars.enumerated() {
        guard index < 60 else {
            result += "…"
            break
        }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator:
            result += "\\u{\(String(scalar.value, radix: 16))}"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "'"
}
