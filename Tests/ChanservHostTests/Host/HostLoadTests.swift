import Chanserv
import Foundation
import NIOConcurrencyHelpers
import Testing

/// Reloads while clients stream. For more load, set `CHANSERV_TEST_RELOADS=200 CHANSERV_TEST_CLIENTS=50`.
@Suite(.timeLimit(.minutes(30))) struct HostLoadTests {
    @Test(arguments: HostFixture.Replacement.allCases, Isolation.allCases)
    func `reloads under load lose no frame and destroy each replaced instance`(
        replacement: HostFixture.Replacement, isolation: Isolation
    ) async throws {
        let environment = ProcessInfo.processInfo.environment
        let reloads = environment["CHANSERV_TEST_RELOADS"].flatMap(Int.init) ?? (isolation == .host ? 10 : 3)
        let clients = environment["CHANSERV_TEST_CLIENTS"].flatMap(Int.init) ?? 5
        let fixture = try HostFixture(isolation)
        try fixture.install("v0")
        try fixture.configure()
        try await fixture.host.start()
        let stop = NIOLockedValueBox(false)
        let streams = NIOLockedValueBox(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<clients {
                group.addTask {
                    try await fixture.withClient { client in
                        while !stop.withLockedValue({ $0 }) {
                            try await client.stream(count: 2_000)
                            streams.withLockedValue { $0 += 1 }
                        }
                    }
                }
            }
            group.addTask {
                defer { stop.withLockedValue { $0 = true } }
                try await fixture.withClient { client in
                    for number in 1...reloads {
                        try fixture.install("v\(number)", by: replacement)
                        let outcome = await fixture.host.reload()
                        #expect(outcome.result == .changed, "\(outcome.reasons)")
                        let version = try await client.version()
                        #expect(version == "v\(number)")
                    }
                }
            }
            try await group.waitForAll()
        }
        await fixture.host.shutdown(drain: .seconds(30))
        #expect(streams.withLockedValue { $0 } > 0)
        await fixture.expectLogged("created v", times: reloads + 1)
        await fixture.expectLogged("destroyed v", times: reloads + 1)
        let complaints = fixture.log.lines.filter {
            ($0.hasPrefix("warning") || $0.hasPrefix("error")) && !$0.contains("libraries (")
        }
        #expect(complaints.isEmpty)
    }
}
