import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Streams over a link with a long round trip. Windows grow only if both ends announced `window`.
@Suite(.timeLimit(.minutes(5))) struct LongRoundTripTests {
    private static let oneWay = TimeAmount.milliseconds(20)

    /// The windows of all WND_SIZE so far.
    private func windows(_ proxy: RecordingProxy) -> [Int] {
        proxy.recorded.compactMap { Int($0.hex.suffix(8), radix: 16) }
    }

    private func slowLink(to address: SocketAddress) async throws -> RecordingProxy {
        try await RecordingProxy(to: address, delay: Self.oneWay, keeping: { $0.command == .windowSize })
    }

    @Test func `windows grow between nodes of this library`() async throws {
        let server = Node.withoutTimeouts(.server)
        let listener = try server.bind("thing")
        let proxy = try await slowLink(to: try await server.listening())
        let client = Node.withoutTimeouts(.client)
        try await client.join(proxy.address)
        let stream = try await client.dial("thing", deadline: .testDeadline)
        let source = try await listener.nextStream(deadline: .testDeadline)
        let sending = Task {
            do {
                while true { try await source.send(ByteBuffer(repeating: 7, count: 65_536), deadline: .testDeadline) }
            } catch let error as AstraNetError where error.code == .closedByPeer {
                return source.withStorage { $0.state.sendWindow.limit }
            }
        }
        // This takes longer on a loaded machine: the window grows only after the reader has kept up for several
        // windows.
        while windows(proxy).count < 3, try await stream.receive(deadline: .testDeadline) != nil {}
        let window = stream.withStorage { $0.state.receiveWindow.limit }
        #expect(window >= 524_288)
        stream.close()
        #expect(try await sending.value >= 524_288)
        #expect(windows(proxy).prefix(3) == [131_072, 262_144, 524_288])
        listener.close()
        source.close()
        await client.shutdown()
        await server.shutdown()
        try await proxy.close()
    }

    @Test func `windows do not grow on a link to a Go node`() async throws {
        let node = Node.withoutTimeouts(.server)
        let listener = try node.bind("thing")
        let proxy = try await slowLink(to: try await node.listening())
        let go = try await GoLikePeer.join(proxy.address)
        let sink = try #require(await go.dial("thing"))
        let stream = try await listener.nextStream(deadline: .testDeadline)
        let count = 3_000_000
        async let writing: Void = sink.write([UInt8](repeating: 7, count: count))
        var received = 0
        while received < count, let bytes = try await stream.receive(deadline: .testDeadline) {
            received += bytes.readableBytes
        }
        try await writing
        #expect(stream.withStorage { $0.state.receiveWindow.limit } == 65_536)
        #expect(windows(proxy) == [])
        #expect(go.broken == [])
        stream.close()
        listener.close()
        await go.close()
        await node.shutdown()
        try await proxy.close()
    }
}
