import Foundation
import TestSupport
import Testing

/// Runs the steps of a document like a reader: in a folder with the sample configuration, the sample plugins and a part
/// of the sources, with the built `chanserv` in PATH.
struct DocumentSession {
    /// The address in documents. The session replaces it with a free one.
    private static let documentedAddress = "127.0.0.1:5555"

    /// The folder of the session.
    private let root: String
    /// The current folder.
    private var folder: String
    /// The host that the last `chanserv serve &` has started.
    private var host: ChildProcess?
    private var address = documentedAddress
    /// The exit code of the last command.
    private var code: Int32 = 0

    /// Runs all steps of `document`.
    static func run(_ document: Document) async throws {
        try await withTemporaryFolder { folder in
            var session = try DocumentSession(in: folder)
            defer { session.host?.end() }
            for step in document.steps { try await session.perform(step) }
            try await session.stopHost()
        }
    }

    private init(in root: String) throws {
        self.root = root
        folder = root
        let files = FileManager.default
        for folder in ["Plugins", "Sources", "plugins.d"] {
            // The host refuses plugins in a folder that a umask has made writable for the group.
            try files.createDirectory(
                atPath: "\(root)/\(folder)", withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o755])
        }
        for plugin in ["Echo", "Files", "Ticker"] {
            let target = "\(root)/Plugins/lib\(plugin).so"
            try files.copyItem(atPath: ChanservCommand.plugin(plugin), toPath: target)
            try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: target)
        }
        for path in ["Plugins/Echo", "Sources/CChanservPlugin"] {
            try files.copyItem(atPath: "\(Document.root)/\(path)", toPath: "\(root)/\(path)")
        }
        let configuration = try String(contentsOfFile: "\(Document.root)/chanserv.yaml", encoding: .utf8)
        try write(configuration, to: "chanserv.yaml")
    }

    // MARK: - Steps

    private mutating func perform(_ step: Document.Step) async throws {
        switch step {
        case .run(let command):
            let output = try await run(command)
            #expect(code == 0, "\(command):\n\(output)")
        case .session(let commands):
            for (index, command) in commands.enumerated() {
                let output = try await run(command.text)
                #expect(
                    Document.matches(Self.lines(output)[...], command.output[...]),
                    "$ \(command.text)\n\(output)is not as documented:\n\(command.output.joined(separator: "\n"))")
                let next = commands.indices.contains(index + 1) ? commands[index + 1].text : ""
                #expect(code == 0 || next == "echo $?" || command.text == "echo $?", "$ \(command.text): \(code)")
            }
        case .write(let text, let file):
            try write(text, to: file)
        }
    }

    /// Runs a command in the current folder. Returns its output and errors, and sets `code`.
    private mutating func run(_ command: String) async throws -> String {
        if let serve = command.wholeMatch(of: #/chanserv (serve(?: --config [^ ]+)?) &/#) {
            try await startHost(serve.1.split(separator: " ").map(String.init))
            return ""
        }
        if command == "echo $?" { return "\(code)\n" }
        var text = command.replacingOccurrences(of: Self.documentedAddress, with: address)
        if !text.contains("--join") {
            text = text.replacing(#/\bchanserv (post|mesh)\b/#) { "chanserv \($0.1) --join \(address)" }
        }
        // The last line keeps the folder for the next command. `set -e` in the command may skip it.
        let script = """
            cd "$0" && exec 2>&1
            { \(text)
            }
            code=$?; pwd >"$1"; exit $code
            """
        let search = ProcessInfo.processInfo.environment["PATH"] ?? ""
        let place = root + "/.folder"
        let exit = try await ChildProcess(
            "/usr/bin/env",
            [
                "PATH=\(ChanservCommand.buildFolder):\(search)", "XDG_CACHE_HOME=\(root)/.cache", "/bin/sh", "-c",
                script,
                folder, place,
            ]
        ).exit()
        code = exit.code
        if FileManager.default.fileExists(atPath: place) {
            folder = try String(contentsOfFile: place, encoding: .utf8).trimmingCharacters(in: .newlines)
        }
        return exit.text
    }

    // MARK: - The host

    private mutating func startHost(_ arguments: [String]) async throws {
        try await stopHost()
        // Configurations that a command has written have the documented port.
        for file in try FileManager.default.contentsOfDirectory(atPath: folder) where file.hasSuffix(".yaml") {
            try write(try String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8), to: file)
        }
        let process = try ChildProcess(ChanservCommand.buildFolder + "/chanserv", arguments, folder: folder)
        host = process
        let ready = try await process.errorLine(with: "ready: listening on")
        address = try #require(ready.firstMatch(of: #/127\.0\.0\.1:\d+/#).map { String($0.output) })
        code = 0
    }

    private mutating func stopHost() async throws {
        guard let process = host else { return }
        process.kill(SIGTERM)
        #expect(try await process.exit().code == 0)
        host = nil
    }

    // MARK: - Files

    /// Writes a file in the current folder, with a free port in place of the documented one.
    private func write(_ text: String, to file: String) throws {
        let path = "\(folder)/\(file)"
        try FileManager.default.createDirectory(
            atPath: URL(fileURLWithPath: path).deletingLastPathComponent().path, withIntermediateDirectories: true)
        try text.replacingOccurrences(of: Self.documentedAddress, with: "127.0.0.1:0")
            .write(toFile: path, atomically: true, encoding: .utf8)
    }

    private static func lines(_ text: String) -> [String] {
        var lines = text.components(separatedBy: "\n")
        if lines.last == "" { lines.removeLast() }
        return lines
    }
}
