import Foundation
import TestSupport

/// A `chanserv serve` process for one test, with a private folder for its configuration and copies of the plugins.
struct TestHost {
    /// The folder with all files of the host.
    let folder: String
    let process: ChildProcess
    /// The address for `--join`.
    let address: String

    var configurationFile: String { folder + "/chanserv.yaml" }

    /// A configuration that routes `echo`, `files` and `ticker`.
    static let samples = """
        node:
          listen: 127.0.0.1:0
        plugins:
          echo: {path: libEcho.so}
          files: {path: libFiles.so, config: {root: .}}
          ticker: {path: libTicker.so, config: {sources: 2, interval: 10ms, count: 3}}
        routes:
          - {vaddr: echo, plugin: echo}
          - {vaddr: files, plugin: files}
          - {vaddr: ticker, plugin: ticker}

        """

    /// Calls `body` with a folder that has the sample plugins and a configuration.
    static func withFolder<T>(_ configuration: String = samples, _ body: (String) async throws -> T) async throws -> T {
        try await withTemporaryFolder { folder in
            for plugin in ["Echo", "Files", "Load", "Ticker"] {
                let name = "/lib\(plugin).so"
                try FileManager.default.copyItem(atPath: ChanservCommand.plugin(plugin), toPath: folder + name)
                // The umask may have made the file writable for the group, which the host refuses.
                try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder + name)
            }
            try configuration.write(toFile: folder + "/chanserv.yaml", atomically: true, encoding: .utf8)
            return try await body(folder)
        }
    }

    /// Starts a host, calls `body` when it is ready, and stops it afterwards.
    static func serving<T>(
        _ configuration: String = samples, options: [String] = [], _ body: (TestHost) async throws -> T
    ) async throws -> T {
        try await withFolder(configuration) { folder in
            let process = try ChildProcess(
                ChanservCommand.buildFolder + "/chanserv", ["serve", "--config", folder + "/chanserv.yaml"] + options)
            defer { process.end() }
            let ready = try await process.errorLine(with: "ready")
            guard let address = ready.firstMatch(of: #/127\.0\.0\.1:\d+/#) else {
                throw ChildProcess.Failure(description: "no address in '\(ready)'")
            }
            return try await body(TestHost(folder: folder, process: process, address: String(address.output)))
        }
    }

    /// Runs `chanserv post` with this host.
    func post(_ arguments: String...) async throws -> ChildProcess.Exit {
        try await ChanservCommand.run(["post"] + arguments + ["--join", address])
    }
}
