import AstraNet
import NIOCore
import Testing

/// The limit of the bytes that a link may send in a second.
@Suite(.timeLimit(.minutes(5))) struct ByteRateTests {
    @Test func `a link above its byte rate loses nothing, and others are not affected`() async throws {
        let node = Node.withoutTimeouts { $0.maximumBytesPerSecond = 1 << 20 }
        let echo = try node.echo("echo")
        let address = try await node.listening()
        let (fast, other) = (Node.withoutTimeouts(), Node.withoutTimeouts())
        for peer in [fast, other] { try await peer.join(address) }
        async let flood: Void = fast.expectEcho("echo", count: 3 << 20)
        for _ in 0..<50 { try await other.expectEcho("echo", count: 1_000) }
        try await flood
        #expect(node.refused == .init())
        echo.close()
        for each in [fast, other, node] { await each.shutdown() }
    }
}
