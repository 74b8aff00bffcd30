/// All reasons why a host could not start, or why its configuration is wrong.
public struct HostError: Error, Sendable, Hashable {
    /// The kind of failure. Each has the exit code of the command (sysexits.h).
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        public let description: String
        /// The exit code of the process.
        public let exitCode: Int32

        /// The configuration file, or a plugin in it, is wrong: 65.
        public static let badConfiguration = Code(description: "bad configuration", exitCode: 65)
        /// An address is in use, a resource is missing, or a timeout has passed; another attempt may succeed: 69.
        public static let unavailable = Code(description: "unavailable", exitCode: 69)
        /// An internal error of the host: 70.
        public static let internalFailure = Code(description: "internal failure", exitCode: 70)
    }

    /// The kind of failure.
    public var code: Code
    /// The errors, one line each, never empty. An error of the file has the form `file:line:column: message`.
    public var problems: [String]

    public init(_ code: Code, _ problems: [String]) {
        precondition(!problems.isEmpty, "a HostError needs at least one problem")
        self.code = code
        self.problems = problems
    }
}

extension HostError: CustomStringConvertible {
    public var description: String { problems.joined(separator: "\n") }
}
