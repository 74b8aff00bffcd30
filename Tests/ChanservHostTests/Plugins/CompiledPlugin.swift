import Foundation
import Testing

/// A folder of a test's own, removed when the last reference goes.
final class TestFolder: Sendable {
    let path: String

    init() throws {
        let template = "\(FileManager.default.temporaryDirectory.path)/chanserv-test-XXXXXX"
        var bytes = Array(template.utf8CString)
        try #require(mkdtemp(&bytes) != nil, "no temporary folder")
        path = String(decoding: bytes.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            Issue.record("\(path) could not be removed: \(error)")
        }
    }

    func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// Compiles plugins from C sources with the header of this package.
enum CompiledPlugin {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// Compiles `source` into the shared library `output`.
    ///
    /// - Parameter options: for the compiler, e.g. `-DNAME="x"`.
    static func compile(_ source: String, to output: String, options: [String] = []) throws {
        let sourceFile = output + ".c"
        try Data(source.utf8).write(to: URL(fileURLWithPath: sourceFile))
        let process = Process()
        process.executableURL = try compiler()
        process.arguments =
            ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
            + ["-I", includeFolder, "-o", output] + options + [sourceFile]
        let errors = Pipe()
        process.standardError = errors
        try process.run()
        let text = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure(description: "the compiler refused \(sourceFile):\n\(String(decoding: text, as: UTF8.self))")
        }
        // Whatever the umask: what others may write is refused.
        chmod(output, 0o755)
    }

    static let includeFolder: String = {
        var folder = URL(fileURLWithPath: #filePath)
        for _ in 0..<4 { folder.deleteLastPathComponent() }
        return folder.appendingPathComponent("Sources/CChanservPlugin/include").path
    }()

    /// clang comes with every Swift toolchain; cc is as good.
    private static func compiler() throws -> URL {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        for name in ["clang", "cc", "gcc"] {
            for folder in folders where access("\(folder)/\(name)", X_OK) == 0 {
                return URL(fileURLWithPath: "\(folder)/\(name)")
            }
        }
        throw Failure(description: "neither clang nor cc is on PATH")
    }
}
