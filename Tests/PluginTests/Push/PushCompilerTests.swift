import Foundation
import TestSupport
import Testing

/// Compiles chanserv_push.h with several compilers and sanitizers.
@Suite(.timeLimit(.minutes(3))) struct PushCompilerTests {
    @Test(arguments: [["-std=c11"], ["-std=gnu17"], ["-x", "c++", "-std=c++17"], ["-x", "c++", "-std=c++20"]])
    func `the sample in the comments of the header compiles and serves`(language: [String]) async throws {
        let folder = try TestFolder()
        // -pedantic checks for strict C. -O2 enables the warnings that need flow analysis.
        try CompiledPlugin.compile(
            CompiledPlugin.pushSample(), to: folder.file("lines.so"), options: ["-pedantic", "-O2"] + language)
        let lines = (0..<5000).map { "line \($0)\n" }
        try lines.joined().write(toFile: folder.file("text"), atomically: false, encoding: .utf8)
        try await onThread {
            let instance = try Instance(descriptor(of: URL(fileURLWithPath: folder.file("lines.so"))))
            let sources = try instance.sources(folder.file("text"))
            #expect(text(sources.map(\.header)) == [folder.file("text")])
            #expect(try text(sources[0].frames(Room(frames: 100))) == lines)
            let missing = try instance.open(folder.file("none")).collect().last
            #expect(missing.status == notFound)
            #expect(missing.message == "the file does not exist or is not readable")
            // Opening a pipe without a writer would block for ever.
            try #require(mkfifo(folder.file("pipe"), 0o600) == 0)
            #expect(try instance.open(folder.file("pipe")).collect().last.status == notFound)
            #expect(try instance.open(folder.path).collect().last.status == notFound)
            #expect(try instance.open(folder.file("text") + "\0").collect().last.status == badRequest)
            let long = String(repeating: "/", count: 256 - folder.file("text").utf8.count) + folder.file("text")
            #expect(try instance.open(long).collect().last.status == badRequest)
            #expect(try text(instance.sources(String(long.dropFirst()))[0].frames()).count == lines.count)
        }
    }

    /// The compilers that are tried.
    private static let compilers = ["gcc", "cc", "clang"]

    private static func run(_ words: [String]) throws -> (code: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }

    /// Returns the first compiler whose programs run with the sanitizer. A machine may lack the library, or deny the
    /// mappings that it needs.
    private static func compiler(with sanitizer: String) throws -> String? {
        let folder = try TestFolder()
        try "int main(void) { return 0; }".write(
            toFile: folder.file("empty.c"), atomically: false, encoding: .utf8)
        return try compilers.first { compiler in
            let words = [compiler, "-fsanitize=\(sanitizer)", "-o", folder.file("empty"), folder.file("empty.c")]
            return try run(words).code == 0 && run([folder.file("empty")]).code == 0
        }
    }

    @Test(arguments: ["thread", "address"]) func `sanitizers find no fault with a host that has many threads`(
        sanitizer: String
    ) throws {
        guard let compiler = try Self.compiler(with: sanitizer) else {
            print("no compiler here has the \(sanitizer) sanitizer; not run")
            return
        }
        let folder = try TestFolder()
        try pushDriverSource.write(toFile: folder.file("driver.c"), atomically: false, encoding: .utf8)
        let compiled = try Self.run([
            compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-pthread", "-fsanitize=\(sanitizer)",
            "-I", CompiledPlugin.includeFolder, "-o", folder.file("driver"), folder.file("driver.c"),
        ])
        try #require(compiled.code == 0, "\(compiled.output)")
        let (code, output) = try Self.run([folder.file("driver")])
        #expect(code == 0, "\(output)")
        #expect(output.contains(#/\d{3,} sources, \d{4,} frames/#), "\(output)")
    }
}
