/// Why a host could not start or check its configuration: everything that was found, not only the first thing.
public struct HostError: Error, Sendable, Hashable {
    /// The kind of failure, each with the exit code a command ends with (sysexits.h).
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        public let description: String
        /// What the process ends with.
        public let exitCode: Int32

        /// The configuration file or a plugin it names is at fault: 65.
        public static let badConfiguration = Code(description: "bad configuration", exitCode: 65)
        /// An address is in use, something is not to be had, or took too long, and may go well another time: 69.
        public static let unavailable = Code(description: "unavailable", exitCode: 69)
        /// The host itself is at fault: 70.
        public static let internalFailure = Code(description: "internal failure", exitCode: 70)
    }

    /// The kind of failure.
    public var code: Code
    /// What is wrong, one line each, never empty; `file:line:column: message` where there is a place.
    public var problems: [String]

    public init(_ code: Code, _ problems: [String]) {
        precondition(!problems.isEmpty, "an error without a reason helps nobody")
        self.code = code
        self.problems = problems
    }
}

extension HostError: CustomStringConvertible {
    public var description: String { problems.joined(separator: "\n") }
}
