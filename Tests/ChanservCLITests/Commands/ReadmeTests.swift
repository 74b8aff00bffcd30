import Foundation
import TestSupport
import Testing

/// Tests the code and the commands in the README.
@Suite struct ReadmeTests {
    @Test func `the first plugin in the README can be compiled and served`() async throws {
        let source = try codeBlock("c", number: 0)
        let route = try codeBlock("yaml", number: 0)
        try await TestHost.serving { host in
            try FileManager.default.createDirectory(
                atPath: host.folder + "/Plugins", withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o755])
            try CompiledPlugin.compile(source, to: host.folder + "/Plugins/words.so")
            // "Add the plugin and a route to the sections": the entries are appended to the sections.
            let parts = route.components(separatedBy: "routes:\n")
            let plugin = parts[0].replacingOccurrences(of: "plugins:\n", with: "")
            let configuration =
                TestHost.samples.replacingOccurrences(of: "routes:\n", with: plugin + "routes:\n") + parts[1]
            try configuration.write(toFile: host.configurationFile, atomically: true, encoding: .utf8)
            let check = try await ChanservCommand.run("check", folder: host.folder)
            #expect(check.errors == "")
            #expect(check.code == 0)

            host.process.kill(SIGHUP)
            _ = try await host.process.errorLine(with: "words")
            let one = try await host.post("words", "--body", "hi")
            #expect(one.text == "[0] header: hi\n[0] h\n[0] i\n")
            let two = try await host.post("words", "--body", " hi mesh  ")
            #expect(
                two.lines.filter { $0.hasPrefix("[1]") }.joined(separator: "\n").hasPrefix("[1] header: mesh\n[1] m"))
            #expect(two.code == 0)
        }
    }

    @Test func `the first plugin in the README passes plugin test with the output shown`() async throws {
        let folder = try TestFolder()
        try CompiledPlugin.compile(try codeBlock("c", number: 0), to: folder.file("words.so"))
        let exit = try await ChanservCommand.run("plugin", "test", folder.file("words.so"), "--request", "some words")
        #expect(exit.code == 0)
        let last = try #require(exit.lines.last)
        #expect(
            try readme().contains(
                "$ chanserv plugin test Plugins/words.so --request 'some words' | tail -n 1\n\(last)\n"))
    }

    @Test func `the sample plugins answer as shown in the README`() async throws {
        let readme = try readme()
        try await TestHost.serving { host in
            for (vAddr, arguments) in [
                ("echo", ["--body", "hello, mesh"]), ("ticker", ["--body", "1 500ms 2", "--output", "json"]),
            ] {
                let exit = try await ChanservCommand.run(["post", vAddr, "--join", host.address] + arguments)
                let typed = (["$ chanserv post", vAddr] + arguments.map { $0.contains(" ") ? "'\($0)'" : $0 })
                #expect(readme.contains(typed.joined(separator: " ") + "\n" + exit.text + "```"))
            }
        }
    }

    /// Returns the `number`-th block of code in a language.
    private func codeBlock(_ language: String, number: Int) throws -> String {
        let blocks = try readme().components(separatedBy: "```\(language)\n").dropFirst()
        let block = try #require(blocks.dropFirst(number).first)
        return block.components(separatedBy: "```\n")[0]
    }

    private func readme() throws -> String {
        let root = URL(fileURLWithPath: CompiledPlugin.includeFolder + "/../../..").standardized
        return try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
    }
}
