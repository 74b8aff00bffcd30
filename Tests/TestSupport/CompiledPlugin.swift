import Foundation
import NIOConcurrencyHelpers
import Testing

/// A temporary folder, removed when the last reference to this object is released.
package final class TestFolder: Sendable {
    package let path: String

    package init() throws {
        let template = "\(FileManager.default.temporaryDirectory.path)/chanserv-test-XXXXXX"
        var bytes = Array(template.utf8CString)
        try #require(mkdtemp(&bytes) != nil, "cannot create a temporary folder")
        path = String(decoding: bytes.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            Issue.record("cannot remove \(path): \(error)")
        }
    }

    package func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// Compiles plugins from C sources with the header of this package.
package enum CompiledPlugin {
    package struct Failure: Error, CustomStringConvertible {
        package var description: String
    }

    private struct Job: Hashable {
        var source: String
        var options: [String]
    }

    /// Cache of compiled libraries. Most tests use the same one.
    private static let compiled = NIOLockedValueBox<[Job: Data]>([:])

    /// Compiles `source` into the shared library `output`.
    ///
    /// - Parameter options: additional options of the compiler, e.g. `-DNAME="x"`.
    package static func compile(_ source: String, to output: String, options: [String] = []) throws {
        let job = Job(source: source, options: options)
        try compiled.withLockedValue { compiled in
            if let library = compiled[job] {
                try library.write(to: URL(fileURLWithPath: output))
            } else {
                try run(job, to: output)
                compiled[job] = try Data(contentsOf: URL(fileURLWithPath: output))
            }
        }
        // Independent of the umask, because the host refuses a library that other users can write.
        chmod(output, 0o755)
    }

    private static func run(_ job: Job, to output: String) throws {
        let sourceFile = output + ".c"
        try Data(job.source.utf8).write(to: URL(fileURLWithPath: sourceFile))
        let process = Process()
        process.executableURL = try compiler()
        process.arguments =
            ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
            + ["-I", includeFolder, "-o", output] + job.options + [sourceFile]
        let errors = Pipe()
        process.standardError = errors
        try process.run()
        let text = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure(description: "cannot compile \(sourceFile):\n\(String(decoding: text, as: UTF8.self))")
        }
    }

    package static let includeFolder: String = {
        var folder = URL(fileURLWithPath: #filePath)
        for _ in 0..<3 { folder.deleteLastPathComponent() }
        return folder.appendingPathComponent("Sources/CChanservPlugin/include").path
    }()

    /// The first compiler on PATH. Every Swift toolchain has clang.
    private static func compiler() throws -> URL {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        for name in ["clang", "cc", "gcc"] {
            for folder in folders where access("\(folder)/\(name)", X_OK) == 0 {
                return URL(fileURLWithPath: "\(folder)/\(name)")
            }
        }
        throw Failure(description: "no C compiler on PATH: install clang, cc or gcc")
    }
}
