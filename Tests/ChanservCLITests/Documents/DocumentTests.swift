import Foundation
import Testing

/// Runs the commands of the documentation and compares their output with the documents.
@Suite(.timeLimit(.minutes(20))) struct DocumentTests {
    /// The documents whose commands are run.
    enum Tested: String, CaseIterable, CustomTestStringConvertible {
        case readme = "README.md"
        case certificates = "docs/certificates.md"
        case clients = "docs/clients.md"
        case operations = "docs/operations.md"
        case plugins = "docs/plugins.md"
        case pluginsInSwift = "docs/plugins-swift.md"
        case `protocol` = "docs/protocol.md"
        case security = "docs/security.md"

        var testDescription: String { rawValue }

        /// The programs that the commands need besides `chanserv` and the tools of every system.
        private var programs: [String] {
            switch self {
            case .certificates, .clients, .operations, .security: []
            case .readme, .plugins: ["cc"]
            case .pluginsInSwift: ["swift"]
            case .protocol: ["python3"]
            }
        }

        /// The documents whose programs are installed.
        static var runnable: [Tested] {
            let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
            return allCases.filter { document in
                document.programs.allSatisfy { name in folders.contains { access("\($0)/\(name)", X_OK) == 0 } }
            }
        }
    }

    @Test(arguments: Tested.runnable) func `the commands of a document have the output that it shows`(
        document: Tested
    ) async throws {
        try await DocumentSession.run(try Document(document.rawValue))
    }

    @Test(arguments: [
        (["a", "b"], ["a", "b"], true), (["a"], ["a", "b"], false), (["a", "b"], ["a"], false),
        (["pid 17, up 3 s"], ["pid …, up … s"], true), (["pid 17, up 3 ms"], ["pid …, up … h"], false),
        (["a  b"], ["a     b"], true), (["a", "x", "y", "b"], ["a", "…", "b"], true),
        (["a", "b"], ["a", "…", "b"], true),
        (["a", "x"], ["a", "…", "b"], false), (["aba"], ["ab…ba"], false),
    ]) func `an ellipsis stands for any text, and runs of spaces are equal`(
        lines: [String], pattern: [String], matches: Bool
    ) {
        #expect(Document.matches(lines[...], pattern[...]) == matches)
    }
}
