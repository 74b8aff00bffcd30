import Foundation
import TestSupport

/// A host with a control socket in its folder.
extension TestHost {
    var socketPath: String { folder + "/c.sock" }

    /// The configuration `samples` with a control socket.
    static let controlled = samples.replacingOccurrences(of: "node:\n", with: "node:\n  control: c.sock\n")

    /// Runs a command that controls this host.
    func control(_ arguments: String...) async throws -> ChildProcess.Exit {
        try await ChanservCommand.run(arguments + ["--config", configurationFile])
    }

    /// Runs a command that controls this host with `--json`, and returns the object it prints.
    func controlJSON(_ arguments: String...) async throws -> [String: Any] {
        let exit = try await ChanservCommand.run(arguments + ["--json", "--config", configurationFile])
        guard let object = try JSONSerialization.jsonObject(with: exit.output) as? [String: Any] else {
            throw ChildProcess.Failure(description: "no object: \(exit.text) \(exit.errors)")
        }
        return object
    }

    /// Returns a route from `chanserv status --json`.
    func route(_ vAddr: String) async throws -> [String: Any] {
        let routes = try await controlJSON("status")["routes"] as? [[String: Any]]
        guard let route = routes?.first(where: { $0["vaddr"] as? String == vAddr }) else {
            throw ChildProcess.Failure(description: "no route \(vAddr) in \(String(describing: routes))")
        }
        return route
    }

    func configure(_ text: String) throws {
        try text.write(toFile: configurationFile, atomically: true, encoding: .utf8)
    }
}
