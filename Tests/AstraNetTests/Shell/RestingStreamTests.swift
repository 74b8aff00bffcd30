import NIOCore
import Testing

@testable import AstraNet

/// A stream on which nothing happens keeps nothing but what it needs to go on.
@Suite struct RestingStreamTests {
    @Test func itIsSmall() {
        #expect(MemoryLayout<AstraNet.Stream.Storage>.size <= 80)
    }

    @Test func whatWorkTookIsGivenBackOnceItIsDone() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        for size in [1, 1_000, 1_000_000] {
            try await client.expectRest()
            try await server.expectRest()
            let bytes = ByteBuffer(repeating: 7, count: size)
            async let sending: Void = client.send(bytes, deadline: .soon)
            var received = ByteBuffer()
            while received.readableBytes < size / 2 {
                received.writeImmutableBuffer(try #require(try await server.receive(deadline: .soon)))
            }
            let rest = size - received.readableBytes
            if rest > 0 { #expect(try await server.receive(rest, into: &received, deadline: .soon) == rest) }
            #expect(received == bytes)
            try await sending
        }
        try await client.expectRest()
        // It has work for as long as somebody waits for it.
        await #expect(throws: AstraNetError.self) { try await server.receive(deadline: .now) }
        try await server.expectRest()
        client.onPeerGone {}
        #expect(client.withStorage { $0.active != nil })
        client.close()
        server.close()
        try await client.expectRest()
        try await server.expectRest()
        await pair.shutdown()
    }
}

extension AstraNet.Stream {
    /// Waits for what the event loop still has to do.
    fileprivate func expectRest(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let deadline = ContinuousClock.Instant.soon
        while withStorage({ $0.active != nil }), .now < deadline { await Task.yield() }
        #expect(withStorage { $0.active == nil }, sourceLocation: sourceLocation)
    }
}
