/// A position in a configuration file.
public struct ConfigurationLocation: Sendable, Hashable {
    /// The path of the file as the caller passed it.
    public var file: String
    /// The line, counted from 1; 0 for the file as a whole.
    public var line: Int
    /// The column in characters, counted from 1; a tab counts as one character. 0 for the line or the file as a whole.
    public var column: Int

    public init(file: String, line: Int = 0, column: Int = 0) {
        self.file = file
        self.line = line
        self.column = column
    }
}

extension ConfigurationLocation: CustomStringConvertible {
    /// `file:line:column`, the notation that editors and terminals can jump to.
    public var description: String { line == 0 ? file : "\(file):\(line):\(column)" }

    /// The position without the file, for a second position in a message that begins with the first.
    var withinFile: String { "line \(line), column \(column)" }

    /// The position in a message that begins with `other`.
    func seen(from other: Self) -> String {
        other.file == file && line != 0 ? withinFile : description
    }
}

extension ConfigurationLocation: Comparable {
    public static func < (left: Self, right: Self) -> Bool {
        (left.file, left.line, left.column) < (right.file, right.line, right.column)
    }
}

/// An error or a warning about a configuration file.
public struct ConfigurationError: Error, Sendable, Hashable {
    /// The position that the message is about.
    public var location: ConfigurationLocation
    /// The text for the operator, without the position.
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

/// All errors of a configuration file, sorted by position; never empty.
public struct ConfigurationErrors: Error, Sendable, Hashable {
    /// At least one error, sorted by position. Errors at the same position keep the order in which they were found.
    public let errors: [ConfigurationError]

    /// - Parameter errors: at least one, in any order; duplicates are dropped.
    public init(_ errors: [ConfigurationError]) {
        precondition(!errors.isEmpty, "ConfigurationErrors needs at least one error")
        self.errors = Self.sorted(errors)
    }

    /// Returns the errors sorted by position, without duplicates. The sort is stable.
    static func sorted(_ errors: [ConfigurationError]) -> [ConfigurationError] {
        var seen: Set<ConfigurationError> = []
        return errors.filter { seen.insert($0).inserted }.enumerated()
            .sorted { ($0.element.location, $0.offset) < ($1.element.location, $1.offset) }
            .map(\.element)
    }
}

extension ConfigurationErrors: CustomStringConvertible {
    /// One line `file:line:column: message` for each error.
    public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// Returns `text` in quotes for a message. Control characters are escaped and the text is cut to 60 characters, so that
/// the content of a file can neither break nor flood a log line.
package func quoted(_ text: some StringProtocol) -> String {
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
