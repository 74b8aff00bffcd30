import AstraNet
import Foundation
import TestSupport

/// A running `chanserv serve` with its own folder for configuration and plugins.
struct ServedHost: Sendable {
    let folder: TestFolder
    let process: ChildProcess
    /// The port on 127.0.0.1 on which it listens.
    let port: Int

    /// The address for `--join`.
    var address: String { "127.0.0.1:\(port)" }
    var configurationFile: String { folder.file("chanserv.yaml") }

    /// A configuration with one plugin, `drill.so`, at the vAddr `drill`.
    static let drill = """
        node: {listen: 127.0.0.1:0}
        plugins:
          drill: {path: drill.so}
        routes:
          - {vaddr: drill, plugin: drill}
        """

    /// Starts a host, calls `body` and ends the host.
    ///
    /// - Parameters:
    ///   - configuration: the configuration in YAML. The folder has `drill.so` of version 0.
    ///   - prepare: adds files to the folder before the start.
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

    /// Copies a built plugin into a folder. Only its owner can write it, whatever the umask.
    static func copyBuilt(_ name: String, to folder: TestFolder) throws {
        try FileManager.default.copyItem(atPath: ChanservCommand.plugin(name), toPath: folder.file(name))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.file(name))
    }

    /// Replaces the configuration file.
    func configure(_ configuration: String) throws {
        try Data((configuration + "\n").utf8).write(to: URL(fileURLWithPath: configurationFile))
    }

    /// Requests a reload with SIGHUP and waits until the log reports its result.
    ///
    /// - Returns: the log line of the result.
    func reload() async throws -> String {
        process.kill(SIGHUP)
        // The reasons of a refused reload are in earlier lines with the level error.
        return try await process.errorLine(withOneOf: ["info chanserv: reload: ", "reload refused"])
    }

    /// Makes a client with its own node and link.
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
