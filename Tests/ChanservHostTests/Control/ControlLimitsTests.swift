import ChanservHost
import Foundation
import PluginRuntime
import TestSupport
import Testing

/// The timeouts of the control socket, shortened for the tests.
@Suite struct ControlLimitsTests {
    /// Calls `body` with the path of the control socket of a host without routes.
    private func controlled(
        _ change: (inout ControlLimits) -> Void, _ body: (String) async throws -> Void
    ) async throws {
        let fixture = try HostFixture()
        try fixture.configure(plugins: "{}", routes: "[]")
        try await fixture.host.start()
        var limits = ControlLimits()
        change(&limits)
        let path = fixture.folder.file("c.sock")
        let threads = PluginThreads(name: "test", limit: 1)
        let server = try await ControlServer.start(
            at: path, host: fixture.host, threads: threads, logger: fixture.log.logger, limits: limits)
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(path))
        } catch {
            result = .failure(error)
        }
        await server.stop()
        threads.retire()
        await fixture.host.shutdown(drain: .zero)
        #expect(access(path, F_OK) != 0)
        try result.get()
    }

    @Test func `a client that sends no complete request gets a timeout error and is closed`() async throws {
        try await controlled {
            $0.readTime = .milliseconds(50)
        } _: { path in
            let client = try RawControlClient(path)
            #expect(try await client.errorCode() == "timeout")
            #expect(try await client.line() == nil)
            // An incomplete line is no request either.
            let half = try RawControlClient(path)
            half.send("{\"command\":")
            #expect(try await half.errorCode() == "timeout")
            #expect(try await half.line() == nil)
        }
    }

    @Test func `a client that does not read its answers is closed`() async throws {
        try await controlled {
            $0.writeTime = .milliseconds(50)
        } _: { path in
            let client = try RawControlClient(path)
            let count = 20_000
            for _ in 0..<count / 100 {
                client.send(String(repeating: "{\"command\":\"status\"}\n", count: 100))
            }
            try await client.closed()
            var answers = 0
            while try await client.line() != nil { answers += 1 }
            #expect(answers > 0 && answers < count)
        }
    }
}
