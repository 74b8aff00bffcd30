/// The reason why a certificate, a key or a set of CA certificates cannot be used, and the remedy.
public struct TLSFileError: Error, Hashable, Sendable {
    /// The path of the file; `nil` if the problem is not in a file.
    public var file: String?
    /// The line, from 1; `nil` if the problem concerns the whole file.
    public var line: Int?
    /// The problem, such as `the key is encrypted`.
    public var problem: String
    /// The remedy, such as `decrypt it with: …`. Empty if the problem says enough.
    public var remedy: String

    /// Creates an error.
    public init(file: String?, line: Int? = nil, problem: String, remedy: String = "") {
        self.file = file
        self.line = line
        self.problem = problem
        self.remedy = remedy
    }

    /// The problem and the remedy, without the file.
    public var message: String { remedy.isEmpty ? problem : "\(problem); \(remedy)" }
}

extension TLSFileError: CustomStringConvertible {
    /// `FILE:LINE: PROBLEM; REMEDY`.
    public var description: String {
        guard let file else { return message }
        return line.map { "\(file):\($0): \(message)" } ?? "\(file): \(message)"
    }
}
