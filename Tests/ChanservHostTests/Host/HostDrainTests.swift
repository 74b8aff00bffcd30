import AstraNet
import Chanserv
import ChanservAstraNet
import ChanservHost
import HostConfiguration
import PluginRuntime
import TestSupport
import Testing

/// Draining and enabling routes while clients use them.
@Suite struct HostDrainTests {
    private func fixture() throws -> HostFixture {
        let fixture = try HostFixture()
        try fixture.install("1")
        try fixture.configure()
        return fixture
    }

    /// Waits until the node of a client knows `count` offers of a name.
    private func offers(_ name: String, of node: Node, count: Int) async throws {
        var changes = node.listingChanges.makeAsyncIterator()
        while node.listing.services.filter({ $0.offer.name == name }).count != count {
            _ = try await changes.next(deadline: .now + .seconds(60))
        }
    }

    @Test func `no request fails while a route drains on one of two hosts`() async throws {
        let (one, two) = (try fixture(), try fixture())
        try await one.host.start()
        try await two.host.start()
        let node = Node()
        for fixture in [one, two] {
            try await node.join(host: "127.0.0.1", port: try await fixture.port, deadline: .now + .seconds(20))
        }
        try await offers("stream", of: node, count: 2)
        let client = Client(multiplexer: AstraNetMultiplexer(node))
        let (isUnderWay, isOver) = (OneTimeEvent(), OneTimeEvent())
        let clients = Task {
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        var count = 0
                        while !isOver.hasHappened {
                            try await client.stream(count: 20)
                            count += 1
                            isUnderWay.happened()
                        }
                        return count
                    }
                }
                return try await group.reduce(0, +)
            }
        }
        // Without this wait, all drains may be over before the first request.
        _ = await isUnderWay.wait(until: .now + .seconds(60))
        for _ in 0..<20 {
            let outcome = try await one.host.drain("stream")
            #expect(outcome == DrainOutcome(result: .drained, cancelled: 0))
            let status = await one.host.status
            #expect(status.routes[0].state == .drained)
            #expect(status.routes[0].requestsOpen == 0 && status.routes[0].sourcesOpen == 0)
            #expect(try await one.host.enable("stream"))
            #expect(try await !one.host.enable("stream"))
        }
        try await offers("stream", of: node, count: 2)
        isOver.happened()
        #expect(try await clients.value > 0)
        for fixture in [one, two] {
            #expect(await fixture.host.status.routes[0].failures == 0)
            await fixture.host.shutdown(drain: .zero)
        }
        await node.shutdown()
    }

    @Test func `enabling a route during its drain leaves open requests running`() async throws {
        let fixture = try fixture()
        try await fixture.serving { client in
            let source = try await client.source("stream", "hold")
            var frames = source.frames.makeAsyncIterator()
            _ = try await frames.next()
            let first = try await fixture.host.beginDrain("stream")
            let second = try await fixture.host.beginDrain("stream")
            #expect(first == second)
            #expect(await fixture.host.status.routes[0].state == .draining)
            try await fixture.host.enable("stream")
            #expect(await first.value == DrainOutcome(result: .givenUp, cancelled: 0))
            // The first frame may arrive before the host knows that the client accepted the source.
            try await eventually { await fixture.host.status.routes[0].sourcesOpen == 1 }
            #expect(try await client.version() == "1")
            source.cancel()
        }
    }

    @Test func `a shutdown ends a drain`() async throws {
        let fixture = try fixture()
        try await fixture.host.start()
        try await fixture.withClient { client in
            let source = try await client.source("stream", "stream 1000000000")
            let drain = try await fixture.host.beginDrain("stream")
            await fixture.host.shutdown(drain: .zero)
            #expect(await drain.value.result == .givenUp)
            source.cancel()
            await #expect(throws: RouteError.self) { try await fixture.host.drain("stream") }
            await #expect(throws: RouteError.self) { try await fixture.host.enable("stream") }
        }
    }
}
