import AstraNet
import Foundation
import TestSupport

/// A `chanserv serve` of a test's own, in a folder with a configuration and plugins that only it touches.
struct ServedHost: Sendable {
    let folder: TestFolder
    let process: ChildProcess
    /// Where it listens on 127.0.0.1.
    let port: Int

    /// What `--join` takes.
    var address: String { "127.0.0.1:\(port)" }
    var configurationFile: String { folder.file("chanserv.yaml") }

    /// One plugin, `drill.so`, at the address `drill`.
    static let drill = """
        node: {listen: 127.0.0.1:0}
        plugins:
          drill: {path: drill.so}
        routes:
          - {vaddr: drill, plugin: drill}
        """

    /// Calls `body` while the host serves, and ends it.
    ///
    /// - Parameters:
    ///   - configuration: YAML; the folder has `drill.so` of version 0.
    ///   - prepare: puts more into the folder before the start.
    static func serving<T>(
        _ configuration: String = drill, prepare: (TestFolder) throws -> Void = { _ in },
        _ body: (ServedHost) async throws -> T
    ) async throws -> T {
        let folder = try TestFolder()
        try DrillPlugin.write(version: 0, to: folder.file("drill.so"))
        try prepare(folder)
        try Data((configuration + "\n").utf8).write(to: URL(fileURLWithPath: folder.file("chanserv.yaml")))
        let process = try ChanservCommand.start("serve", "--config", folder.file("chanserv.yaml"))
        defer { process.end() }
        let ready = try await process.errorLine(with: "ready: listening on")
        guard let port = ready.firstMatch(of: #/127\.0\.0\.1:(\d+)/#).flatMap({ Int($0.1) }) else {
            throw ChildProcess.Failure(description: "no port in '\(ready)'")
        }
        return try await body(ServedHost(folder: folder, process: process, port: port))
    }

    /// Puts one of the built plugins into a folder, as its owner's alone whatever the umask.
    static func copyBuilt(_ name: String, to folder: TestFolder) throws {
        try FileManager.default.copyItem(atPath: "\(ChanservCommand.buildFolder)/\(name)", toPath: folder.file(name))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.file(name))
    }

    /// Puts another configuration in the place of the present one.
    func configure(_ configuration: String) throws {
        try Data((configuration + "\n").utf8).write(to: URL(fileURLWithPath: configurationFile))
    }

    /// Asks for a reload and waits until the log says how it ended.
    ///
    /// - Returns: that line.
    func reload() async throws -> String {
        process.kill(SIGHUP)
        // A refused one has its reasons in lines before, which differ in their level.
        return try await process.errorLine(withOneOf: ["info chanserv: reload: ", "reload rejected"])
    }

    /// A client with a node and a link of its own.
    func connect() async throws -> TestClient {
        try await TestClient(port: port)
    }

    /// Calls `body` with a client, which is closed afterwards.
    func withClient<T>(_ body: (TestClient) async throws -> T) async throws -> T {
        let client = try await connect()
        do {
            let result = try await body(client)
            await client.close()
            return result
        } catch {
            await client.close()
            throw error
        }
    }
}
