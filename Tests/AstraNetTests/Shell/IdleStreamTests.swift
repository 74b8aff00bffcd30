import AstraNet
import NIOCore
import Testing

/// An idle stream uses little memory.
@Suite struct IdleStreamTests {
    @Test func `the storage of an idle stream has at most 80 bytes`() {
        #expect(MemoryLayout<AstraNet.MeshStream.Storage>.size <= 80)
    }

    @Test func `a stream releases its active state when its work is done`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        for size in [1, 1_000, 1_000_000] {
            try await client.expectIdle()
            try await server.expectIdle()
            let bytes = ByteBuffer(repeating: 7, count: size)
            async let sending: Void = client.send(bytes, deadline: .testDeadline)
            var received = ByteBuffer()
            while received.readableBytes < size / 2 {
                received.writeImmutableBuffer(try #require(try await server.receive(deadline: .testDeadline)))
            }
            let rest = size - received.readableBytes
            if rest > 0 { #expect(try await server.receive(rest, into: &received, deadline: .testDeadline) == rest) }
            #expect(received == bytes)
            try await sending
        }
        try await client.expectIdle()
        // A stream with a waiting reader is active.
        await #expect(throws: AstraNetError.self) { try await server.receive(deadline: .now) }
        try await server.expectIdle()
        client.onPeerClosed {}
        #expect(client.withStorage { $0.active != nil })
        client.close()
        server.close()
        try await client.expectIdle()
        try await server.expectIdle()
        await pair.shutdown()
    }
}

extension AstraNet.MeshStream {
    /// Waits until the event loop has finished its work, and checks that the stream is idle.
    fileprivate func expectIdle(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let deadline = ContinuousClock.Instant.testDeadline
        while withStorage({ $0.active != nil }), .now < deadline { await Task.yield() }
        #expect(withStorage { $0.active == nil }, sourceLocation: sourceLocation)
    }
}
