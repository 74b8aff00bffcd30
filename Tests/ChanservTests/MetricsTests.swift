import Chanserv
import Metrics
import MetricsTestKit
import NIOCore
import Testing

/// The counters that a service emits through swift-metrics.
@Suite(.timeLimit(.minutes(5))) struct MetricsTests {
    /// The backend of this process, which can be chosen once.
    private static let backend = {
        let backend = TestMetrics()
        MetricsSystem.bootstrap(backend)
        return backend
    }()

    private static func value(_ name: String, _ vAddr: String) throws -> Int64 {
        try backend.expectCounter("chanserv_\(name)_total", [("vaddr", vAddr)]).totalValue
    }

    @Test func `a service counts requests, sources, frames and bytes with its virtual address`() async throws {
        _ = Self.backend
        let network = try await TestNetwork.make(.memory)
        let server = Server(multiplexer: network.server)
        let service = try server.serve("metered") { _ in
            SourceList([
                Source(
                    header: "",
                    producer: TestProducer { batch in
                        try batch.append("one")
                        try batch.append("two")
                        return false
                    })
            ])
        }
        let client = Client(multiplexer: network.client)
        for try await source in try await client.lookupAndPost("metered", body: "") {
            #expect(try await source.frames.collect().count == 2)
        }
        await service.drain(until: .testDeadline)
        #expect(try Self.value("requests", "metered") == 1)
        #expect(try Self.value("sources", "metered") == 1)
        #expect(try Self.value("frames", "metered") == 2)
        #expect(try Self.value("frame_bytes", "metered") > 6)
        #expect(try Self.value("failures", "metered") == 0)
    }
}
