import AstraNet
import Chanserv
import TestSupport
import Testing

extension EndToEnd {
    /// The error mass of routes: withdrawal, probe and recovery.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct ErrorMass {
        private static let configuration = """
            node: {listen: 127.0.0.1:0}
            plugins:
              drill: {path: drill.so}
            routes:
              - {vaddr: failing, plugin: drill, error_mass: {limit: 3, pause: 2s, max_pause: 2s}}
              - {vaddr: other, plugin: drill}
            """

        /// Whether the client knows an offer of the vAddr `failing`. The answer of another request arrives after all
        /// announcements that the host sent before it.
        private func isOffered(_ client: TestClient) async throws -> Bool {
            _ = try await client.report("other", "stats")
            return client.node.services.contains { $0.name == "failing" }
        }

        private func fail(_ client: TestClient, _ request: String, times: Int) async throws {
            for _ in 0..<times {
                let error = try await failure(of: { try await client.frames("failing", request) })
                #expect(error.code == .sourceFailed)
                #expect(error.message.contains("told to fail"), "\(error)")
            }
        }

        @Test(arguments: ["refuse told to fail", "fail told to fail"], Isolation.allCases)
        func `a route that fails every request is withdrawn, and one success clears its error mass`(
            request: String, isolation: Isolation
        ) async throws {
            try await ServedHost.serving(isolation.applied(to: Self.configuration)) { host in
                try await host.withClient { client in
                    #expect(try await isOffered(client))
                    try await fail(client, request, times: 3)
                    let third = try await host.process.errorLine(
                        with: "route 'failing' withdrawn for 2s after 3 failures")
                    #expect(third.contains("told to fail"))
                    #expect(try await !isOffered(client))

                    // This request waits until the vAddr is offered again. It is the probe.
                    try await fail(client, request, times: 1)
                    _ = try await host.process.errorLine(with: "route 'failing' withdrawn for 2s after 4 failures")
                    #expect(try await !isOffered(client))

                    #expect(try await client.frames("failing", "count 3 1").map(\.count) == [3])
                    // The success cleared the error mass, so two failures stay below the limit.
                    try await fail(client, request, times: 2)
                    #expect(try await client.frames("failing", "count 3 1").map(\.count) == [3])
                    try await fail(client, request, times: 2)
                    #expect(try await isOffered(client))
                }
            }
        }

        @Test func `a route whose plugin does not return is withdrawn at once and other routes are served`()
            async throws
        {
            let configuration = """
                node: {listen: 127.0.0.1:0}
                plugins:
                  stuck: {path: drill.so, call_budget: 100ms}
                  drill: {path: drill.so}
                routes:
                  - {vaddr: failing, plugin: stuck, error_mass: {pause: 10m, max_pause: 10m}}
                  - {vaddr: other, plugin: drill}
                """
            try await ServedHost.serving(configuration) { host in
                try await host.withClient { client in
                    #expect(try await isOffered(client))
                    let stuck = Task { try await client.frames("failing", "ruin hang") }
                    defer { stuck.cancel() }
                    let line = try await host.process.errorLine(with: "route 'failing' withdrawn for")
                    #expect(line.contains("after a failure: "), "\(line)")
                    #expect(line.contains("plugin stuck: poll_frames has not returned"), "\(line)")
                    #expect(try await !isOffered(client))
                    #expect(try await client.frames("other", "count 3 1").map(\.count) == [3])
                }
            }
        }
    }
}
