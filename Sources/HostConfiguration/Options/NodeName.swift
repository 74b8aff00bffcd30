/// The name that a node has on the mesh besides its identity.
package enum NodeName {
    /// Maximum length in bytes.
    static let maximumLength = 63

    /// Returns why a text cannot be the name of a node; `nil` if it can.
    package static func problem(with name: String) -> String? {
        let isValid = name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
        if isValid, (1...maximumLength).contains(name.utf8.count) { return nil }
        return "\(quoted(name)) is not a name of a node: use 1 to \(maximumLength) letters, digits, '-', '_' and '.'"
    }
}
