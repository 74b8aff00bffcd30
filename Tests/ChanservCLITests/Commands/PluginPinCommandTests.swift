import Foundation
import TestSupport
import Testing

/// `chanserv plugin pin`, and that the host holds to what it says.
@Suite struct PluginPinCommandTests {
    private static func copyOfEcho(in folder: TestFolder) throws -> String {
        let file = folder.file("echo.so")
        try FileManager.default.copyItem(atPath: ChanservCommand.plugin("Echo"), toPath: file)
        chmod(file, 0o755)
        return file
    }

    private static func check(_ pin: String, in folder: TestFolder) async throws -> ChildProcess.Exit {
        let configuration = """
            plugins:
              echo:
                path: echo.so
                \(pin)
            routes:
              - {vaddr: echo, plugin: echo}
            """
        try configuration.write(toFile: folder.file("chanserv.yaml"), atomically: false, encoding: .utf8)
        return try await ChanservCommand.run("check", folder: folder.path)
    }

    @Test func theLineIsWhatTheHostAcceptsUntilTheFileChanges() async throws {
        let folder = try TestFolder()
        let file = try Self.copyOfEcho(in: folder)
        let pin = try await ChanservCommand.run("plugin", "pin", file)
        #expect(pin.code == 0)
        #expect(pin.errors == "")
        let line = try #require(pin.lines.first.map(String.init))
        #expect(line.contains(/^sha256: [0-9a-f]{64}$/) && pin.lines.count == 1)
        #expect(try await Self.check(line, in: folder).code == 0)

        // What is behind the sections is nobody's, so the library still works, but it is another file.
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
        try handle.seekToEnd()
        try handle.write(contentsOf: Data([0]))
        try handle.close()
        let changed = try await Self.check(line, in: folder)
        #expect(changed.code == 65)
        #expect(changed.errors.contains("the pinned one is \(line.dropFirst("sha256: ".count))"))
        #expect(try await Self.check("", in: folder).code == 0)
    }

    @Test func whatOthersCanWriteIsPinnedWithAWarning() async throws {
        let folder = try TestFolder()
        let file = try Self.copyOfEcho(in: folder)
        let line = try await ChanservCommand.run("plugin", "pin", file).text
        chmod(file, 0o775)
        chmod(folder.path, 0o770)
        let pin = try await ChanservCommand.run("plugin", "pin", file)
        let host = try await Self.check(line, in: folder)
        chmod(folder.path, 0o700)
        #expect(pin.code == 0)
        #expect(pin.text == line)
        #expect(pin.errors.contains("chmod go-w '\(file)'"))
        #expect(pin.errors.contains("chmod go-w '\(folder.path)'"))
        #expect(host.code == 65)
        #expect(host.errors.contains("is writable by users other than its owner"))
    }

    @Test func whatIsNoLibraryHasNoPin() async throws {
        let folder = try TestFolder()
        try "text".write(toFile: folder.file("text.so"), atomically: false, encoding: .utf8)
        for name in ["text.so", "none.so"] {
            let pin = try await ChanservCommand.run("plugin", "pin", folder.file(name))
            #expect(pin.code == 65)
            #expect(pin.text == "")
            #expect(pin.errors.contains(name))
        }
    }
}
