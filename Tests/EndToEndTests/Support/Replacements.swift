import ChanservHost
import Foundation
import NIOConcurrencyHelpers
import TestSupport
import Testing

/// The processes that have replaced a host. The test ends them, because they are children of the host and not of the
/// test.
final class Replacements: Sendable {
    let host: ServedHost
    private let pids = NIOLockedValueBox<[pid_t]>([])

    init(_ host: ServedHost) {
        self.host = host
    }

    deinit {
        for pid in pids.withLockedValue({ $0 }) { kill(pid, SIGKILL) }
    }

    /// A configuration with a control socket and one plugin, `drill.so`, at the vAddr `drill`.
    static let configuration = ServedHost.drill.replacingOccurrences(
        of: ":0}", with: ":0, control: c.sock, drain: 2m}")

    /// The process that serves.
    var current: pid_t { pids.withLockedValue({ $0.last }) ?? host.process.pid }

    /// Serves a configuration with a control socket, calls `body` and ends all processes.
    static func serving(
        _ configuration: String = configuration, _ body: (ServedHost, Replacements) async throws -> Void
    ) async throws {
        try await ServedHost.serving(configuration) { host in
            let replacements = Replacements(host)
            do {
                try await body(host, replacements)
            } catch {
                print("the log of the hosts:\n\(host.process.errorsSoFar)")
                throw error
            }
            withExtendedLifetime(replacements) {}
        }
    }

    /// Runs `chanserv upgrade`, which must succeed.
    ///
    /// - Returns: the process that serves.
    @discardableResult
    func upgrade() async throws -> pid_t {
        let exit = try await run()
        guard exit.code == 0 else {
            throw ChildProcess.Failure(description: "the upgrade failed: \(exit.text) \(exit.errors)")
        }
        let pid = try Self.outcome(exit).pid
        add(pid)
        return pid
    }

    /// Registers a process that has taken over without ``upgrade()``.
    func add(_ pid: pid_t) {
        pids.withLockedValue { $0.append(pid) }
    }

    /// Runs `chanserv upgrade` and returns its exit.
    func run() async throws -> ChildProcess.Exit {
        try await ChanservCommand.run("upgrade", "--json", "--config", host.configurationFile)
    }

    static func outcome(_ exit: ChildProcess.Exit) throws -> UpgradeOutcome {
        do {
            return try JSONDecoder().decode(UpgradeOutcome.self, from: exit.output)
        } catch {
            throw ChildProcess.Failure(description: "no outcome in '\(exit.text)': \(exit.errors)")
        }
    }

    /// The status at the control socket.
    ///
    /// - Parameter replaced: the replaced process to ask; `nil` for the one that serves.
    func status(of replaced: pid_t? = nil) async throws -> HostStatus {
        let socket = host.folder.file("c.sock") + (replaced.map { ".\($0)" } ?? "")
        let exit = try await ChanservCommand.run("status", "--json", "--socket", socket)
        try #require(exit.code == 0, "\(exit.errors)")
        return try JSONDecoder().decode(HostStatus.self, from: exit.output)
    }

    /// Stops the process that serves, and waits for its end.
    func stop() async throws {
        let ends = try ProcessEnds([current])
        kill(current, SIGTERM)
        #expect(await ends.left() == [])
    }
}

extension ServedHost {
    /// Returns the version of the plugin at `drill` that a client with a new link gets.
    func versionForNewClient() async throws -> Int? {
        try await withClient { client in
            let report = try await client.report("drill", "stats")
            return report["version"]
        }
    }
}
