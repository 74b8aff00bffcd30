internal import Glibc

/// Replaces variables and files in the values of a YAML document (`docs/configuration.md`, "Variables and files").
///
/// - `${NAME}` is the environment variable `NAME`, which must be set. `${NAME:-text}` is `text` if the variable is not
///   set or empty. `$${` stands for the characters `${`.
/// - `!file path` is the content of a file without its last line feed.
///
/// The type of an unquoted value follows from the text after the replacement. Messages show the text before it, because
/// a variable or a file may contain a secret.
package struct YAMLSubstitution {
    /// Maximum size of a file in bytes.
    package static let fileSize = 64 * 1_024

    /// Returns the value of an environment variable; `nil` if it is not set.
    private let variable: (String) -> String?
    /// The absolute folder that relative paths are resolved against.
    private let folder: String

    package init(
        folder: String, variable: @escaping (String) -> String? = { getenv($0).map { String(systemString: $0) } }
    ) {
        self.folder = folder
        self.variable = variable
    }

    /// Why a value cannot be replaced.
    struct Problem: Error {
        var message: String
    }

    /// Returns `text` with its variables replaced; `nil` if it contains none.
    func expand(_ text: String) throws(Problem) -> String? {
        guard text.contains("${") else { return nil }
        var result = ""
        var rest = text[...]
        while let dollar = rest.firstIndex(of: "$") {
            result += rest[..<dollar]
            rest = rest[dollar...]
            if rest.hasPrefix("$${") {
                result += "${"
                rest = rest.dropFirst(3)
            } else if rest.hasPrefix("${") {
                guard let end = rest.firstIndex(of: "}") else {
                    throw Problem(message: "'${' has no '}'; write '$${' for the characters '${'")
                }
                result += try value(of: rest[..<end].dropFirst(2))
                rest = rest[end...].dropFirst()
            } else {
                result.append("$")
                rest = rest.dropFirst()
            }
        }
        return result + rest
    }

    /// Returns the value for the text between the braces.
    private func value(of reference: Substring) throws(Problem) -> String {
        let name = reference.prefix { $0 == "_" || ($0.isASCII && ($0.isLetter || $0.isNumber)) }
        let rest = reference.dropFirst(name.count)
        guard let first = name.first, !first.isNumber, rest.isEmpty || rest.hasPrefix(":-") else {
            throw Problem(
                message: "\(quoted("${\(reference)}")) is not a variable such as ${NAME} or ${NAME:-default}; "
                    + "write '$${' for the characters '${'")
        }
        let value = variable(String(name))
        if value?.hasBytesThatAreNotUTF8 == true {
            throw Problem(message: "the environment variable \(name) is not UTF-8")
        }
        if rest.isEmpty {
            guard let value else {
                throw Problem(
                    message: "the environment variable \(name) is not set; set it or write ${\(name):-default}")
            }
            return value
        }
        return value.flatMap { $0.isEmpty ? nil : $0 } ?? String(rest.dropFirst(2))
    }

    /// Returns the content of the file at `path` without its last line feed.
    func contents(of path: String) throws(Problem) -> String {
        guard !path.isEmpty else { throw Problem(message: "!file needs the path of a file") }
        let path = String(systemBytes: path.utf8)
        let absolute = path.hasPrefix("/") ? path : "\(folder)/\(path)"
        let bytes: [UInt8]
        do throws(FileProblem) {
            bytes = try readBytes(absolute, limit: Self.fileSize)
        } catch {
            throw Problem(message: "the file \(quoted(absolute)) \(error.message)")
        }
        guard bytes.count <= Self.fileSize else {
            throw Problem(
                message:
                    "the file \(quoted(absolute)) is larger than \(ValueGrammar.text(bytes: UInt64(Self.fileSize)))")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Problem(message: "the file \(quoted(absolute)) is not UTF-8")
        }
        return text.hasSuffix("\r\n") || text.hasSuffix("\n") ? String(text.dropLast()) : text
    }
}
