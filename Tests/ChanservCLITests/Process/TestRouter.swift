import Foundation
import TestSupport

/// A `chanserv router` process for one test.
struct TestRouter {
    let process: ChildProcess
    /// The address for `--join`.
    let address: String

    /// Starts a router, calls `body` when it is ready, and stops it afterwards.
    static func routing<T>(_ options: [String] = [], _ body: (TestRouter) async throws -> T) async throws -> T {
        let process = try ChildProcess(
            ChanservCommand.buildFolder + "/chanserv", ["router", "--listen", "127.0.0.1:0"] + options)
        defer { process.end() }
        let ready = try await process.errorLine(with: "ready")
        guard let address = ready.firstMatch(of: #/127\.0\.0\.1:\d+/#) else {
            throw ChildProcess.Failure(description: "no address in '\(ready)'")
        }
        return try await body(TestRouter(process: process, address: String(address.output)))
    }
}

extension TestHost {
    /// Returns the configuration ``samples`` of a host that joins `address`.
    static func samples(joining address: String, role: String = "peer") -> String {
        samples.replacingOccurrences(of: "node:\n", with: "node:\n  join: \(address)\n  role: \(role)\n")
    }
}
