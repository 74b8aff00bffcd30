import Foundation
import TestSupport
import Testing

/// Runs the commands that docs/plugins.md shows for a new plugin, from `chanserv plugin new` to an answer.
@Suite(.timeLimit(.minutes(20))) struct PluginNewTests {
    enum Language: String, CaseIterable {
        case c, cpp, swift, rust, go

        /// The compilers of the language, one of which must be installed.
        var compilers: [String] {
            switch self {
            case .c: ["cc", "clang", "gcc"]
            case .cpp: ["c++", "clang++", "g++"]
            case .swift: ["swift"]
            case .rust: ["cargo"]
            case .go: ["go"]
            }
        }

        static var installed: [Language] {
            let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
            return allCases.filter { language in
                language.compilers.contains { name in folders.contains { access("\($0)/\(name)", X_OK) == 0 } }
            }
        }
    }

    @Test(arguments: Language.installed)
    func `the documented commands create a plugin that answers`(language: Language) async throws {
        let guide = try repositoryFile("docs/plugins.md")
        let section = try #require(guide.components(separatedBy: "## Start with a template\n").dropFirst().first)
        let script = try codeBlock("sh", number: 0, of: section)
        let session = try codeBlock("console", number: 0, of: section)
        #expect(script.contains("--language c "))

        try await withTemporaryFolder { folder in
            let exit = try await shell(
                script.replacingOccurrences(of: "--language c ", with: "--language \(language) "), in: folder)
            #expect(exit.code == 0, "\(exit.errors)")
            #expect(exit.text.contains("quotes is fine\n"), "\(exit.text)")
            #expect(exit.text.contains(/\n\d+ passed, 0 failed/), "\(exit.text)")
            // The session uses a free port instead of the default port.
            let configuration = folder + "/quotes/chanserv.yaml"
            let text = try String(contentsOfFile: configuration, encoding: .utf8)
            try text.replacingOccurrences(of: "127.0.0.1:5555", with: "127.0.0.1:0")
                .write(toFile: configuration, atomically: true, encoding: .utf8)
            #expect(try await answers(to: session, in: folder + "/quotes") == session)
        }
    }

    @Test(arguments: [
        ("c", "no C compiler found: install cc, clang or gcc, or set CC"),
        ("cpp", "no C++ compiler found: install c++, clang++ or g++, or set CXX"),
        ("rust", "no Rust compiler found: install cargo and rustc, and add their folder to PATH"),
        ("go", "no Go compiler found: install go, and add its folder to PATH"),
        ("swift", "no Swift compiler found: install swift, and add its folder to PATH"),
    ])
    func `build and test name the compiler that is missing`(language: String, message: String) async throws {
        try await withTemporaryFolder { folder in
            _ = try await ChanservCommand.run("plugin", "new", "quotes", "--language", language, folder: folder)
            // Only the tools that the scripts use before the compiler.
            let script = """
                unset CC CXX
                mkdir tools
                ln -s "$(command -v dirname)" "$(command -v sh)" tools
                for script in build test; do PATH=$PWD/tools "./quotes/$script" && exit 3; done
                exit 0
                """
            let exit = try await shell(script, in: folder)
            #expect(exit.code == 0)
            #expect(exit.errors == "\(message)\n\(message)\n")
        }
    }

    @Test(arguments: ["", "Quotes", "9lives", "_x", "a-b", "../x", "a b", "ü", String(repeating: "a", count: 64)])
    func `an invalid name is refused`(name: String) async throws {
        try await withTemporaryFolder { folder in
            let exit = try await ChanservCommand.run("plugin", "new", "--", name, folder: folder)
            #expect(exit.code == 64)
            #expect(exit.errors.contains("is not a name"))
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
        }
    }

    @Test func `an existing folder is refused and not changed`() async throws {
        try await withTemporaryFolder { folder in
            try FileManager.default.createDirectory(atPath: folder + "/quotes", withIntermediateDirectories: false)
            let exit = try await ChanservCommand.run("plugin", "new", "quotes", folder: folder)
            #expect(exit.code == 64)
            #expect(exit.errors == "chanserv: quotes exists already: choose another name or remove it\n")
            #expect(exit.text == "")
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/quotes").isEmpty)
        }
    }

    @Test func `the option --sdk adds a package dependency`() async throws {
        try await withTemporaryFolder { folder in
            for (name, sdk, dependency) in [
                ("near", "../chan\"serv", #".package(name: "chanserv", path: "../../chan\"serv")"#),
                ("there", "/opt/chanserv", #".package(name: "chanserv", path: "/opt/chanserv")"#),
                (
                    "far", "https://example.com/chanserv",
                    #".package(url: "https://example.com/chanserv", from: "0.1.0")"#
                ),
            ] {
                let exit = try await ChanservCommand.run(
                    "plugin", "new", name, "--language", "swift", "--sdk", sdk, folder: folder)
                #expect(exit.code == 0)
                let package = try String(contentsOfFile: "\(folder)/\(name)/Package.swift", encoding: .utf8)
                #expect(package.contains(dependency))
                #expect(access("\(folder)/\(name)/SDK", F_OK) != 0)
            }
            let wrong = try await ChanservCommand.run("plugin", "new", "x", "--sdk", "..", folder: folder)
            #expect(wrong.code == 64)
        }
    }

    @Test func `include-dir writes the header of the repository`() async throws {
        try await withTemporaryFolder { folder in
            // Runs a copy of the command in another folder, with a cache that does not exist yet.
            try FileManager.default.copyItem(
                atPath: ChanservCommand.buildFolder + "/chanserv", toPath: folder + "/elsewhere")
            for _ in 0..<2 {
                let exit = try await ChildProcess(
                    "/usr/bin/env",
                    ["XDG_CACHE_HOME=\(folder)/a/cache", folder + "/elsewhere", "plugin", "include-dir"]
                ).exit()
                #expect(exit.code == 0, "\(exit.errors)")
                let include = try #require(exit.lines.first.map(String.init))
                #expect(include.hasPrefix(folder + "/a/cache/"))
                #expect(
                    try Data(contentsOf: URL(fileURLWithPath: include + "/chanserv_plugin.h"))
                        == Data(contentsOf: URL(fileURLWithPath: CompiledPlugin.includeFolder + "/chanserv_plugin.h")))
            }
            let homeless = try await ChildProcess(
                "/usr/bin/env", ["-u", "XDG_CACHE_HOME", "-u", "HOME", folder + "/elsewhere", "plugin", "include-dir"]
            ).exit()
            #expect(homeless.code == 69)
        }
    }

    // MARK: Support

    /// Runs a shell script with the built `chanserv` in PATH.
    private func shell(_ script: String, in folder: String) async throws -> ChildProcess.Exit {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return try await ChildProcess(
            "/usr/bin/env", ["PATH=\(ChanservCommand.buildFolder):\(path)", "/bin/sh", "-euc", script], folder: folder
        ).exit()
    }

    /// Runs the commands of a session and returns the commands with their actual output. `chanserv serve &` starts a
    /// host, which the following `post` commands join.
    private func answers(to session: String, in folder: String) async throws -> String {
        var transcript = ""
        var host: ChildProcess?
        var address = ""
        defer { host?.end() }
        for line in session.split(separator: "\n") where line.hasPrefix("$ ") {
            let command = String(line.dropFirst(2))
            transcript += "\(line)\n"
            if command == "chanserv serve &" {
                let process = try ChildProcess(ChanservCommand.buildFolder + "/chanserv", ["serve"], folder: folder)
                host = process
                let ready = try await process.errorLine(with: "ready")
                address = try #require(ready.firstMatch(of: #/127\.0\.0\.1:\d+/#).map { String($0.output) })
            } else {
                let join = command.hasPrefix("chanserv post") ? " --join \(address)" : ""
                let exit = try await shell(command + join, in: folder)
                #expect(exit.code == 0, "\(command): \(exit.errors)")
                transcript += exit.text
            }
        }
        let process = try #require(host)
        process.kill(SIGTERM)
        #expect(try await process.exit().code == 0)
        return transcript
    }

    private func codeBlock(_ language: String, number: Int, of text: String) throws -> String {
        let blocks = text.components(separatedBy: "```\(language)\n").dropFirst()
        return try #require(blocks.dropFirst(number).first).components(separatedBy: "```\n")[0]
    }

    private func repositoryFile(_ name: String) throws -> String {
        try String(contentsOfFile: CompiledPlugin.includeFolder + "/../../../\(name)", encoding: .utf8)
    }
}
