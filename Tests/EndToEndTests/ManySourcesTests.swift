import Chanserv
import TestSupport
import Testing

extension EndToEnd {
    /// Ten thousand sources, in one request and in a hundred concurrent ones.
    @Suite(.serialized, .timeLimit(.minutes(4))) struct ManySources {
        @Test func `one request delivers 10,000 sources`() async throws {
            try await ServedHost.serving { host in
                try await host.withClient { client in
                    let began = ContinuousClock.now
                    let sources = try await client.frames("drill", "repeat 10000 count 3 10")
                    print("10,000 sources in one request: \(began.duration(to: .now))")
                    #expect(sources.count == 10_000)
                    for frames in sources { #expect(try version(of: frames, count: 3, size: 10) == 0) }
                    #expect(try await client.report("drill", "idle")["sources"] == 10_000)
                }
            }
        }

        @Test func `a hundred concurrent requests deliver a hundred sources each`() async throws {
            try await ServedHost.serving { host in
                try await host.withClient { client in
                    let began = ContinuousClock.now
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for number in 0..<100 {
                            group.addTask {
                                // The lengths differ, so that a frame of another request would be noticed.
                                let length = number % 20 + 1
                                let sources = try await client.frames("drill", "repeat 100 count \(length) 10")
                                #expect(sources.count == 100)
                                for frames in sources {
                                    #expect(try version(of: frames, count: length, size: 10) == 0)
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                    print("100 requests of 100 sources at once: \(began.duration(to: .now))")
                    let report = try await client.report("drill", "idle")
                    #expect(report["calls"] == 100 && report["sources"] == 10_000)
                }
            }
        }
    }
}
