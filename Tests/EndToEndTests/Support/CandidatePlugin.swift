import Foundation
import TestSupport
import Testing

/// The plugin in Plugins/candidate.c. It is compiled once and written in any number of versions.
struct CandidatePlugin {
    /// At most 9,999.
    var version: Int
    /// The percentage of requests that fail.
    var fails = 0
    /// The time of a request.
    var milliseconds = 20
    /// The number of requests after which the process ends; 0: never.
    var crashesAfter = 0

    /// Writes the library to a path, as a new file.
    func write(to path: String) throws {
        var library = try Self.built.get()
        let mark = try #require(library.range(of: Data("CANDIDATE:0000:00:000:0000".utf8)))
        let digits = [(version, 4), (fails, 2), (milliseconds, 3), (crashesAfter, 4)].map { number, width in
            let text = String(number)
            return String(repeating: "0", count: width - text.count) + text
        }
        library.replaceSubrange(mark, with: Data("CANDIDATE:\(digits.joined(separator: ":"))".utf8))
        try DrillPlugin.write(library, to: path)
    }

    private static let built = Result {
        let folder = try TestFolder()
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Plugins/candidate.c")
        try CompiledPlugin.compile(
            String(contentsOf: source, encoding: .utf8), to: folder.file("candidate.so"), options: ["-O1"])
        return try Data(contentsOf: URL(fileURLWithPath: folder.file("candidate.so")))
    }
}
