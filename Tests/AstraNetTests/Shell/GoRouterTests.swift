import AstraNet
import NIOCore
import Testing

/// Routers of this library between Go-like nodes, and a Go-like router between nodes of this library.
@Suite(.timeLimit(.minutes(5))) struct GoRouterTests {
    private static let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

    /// Reads `count` bytes from `stream`.
    private func read(_ stream: GoLikeStream, _ count: Int) async throws -> [UInt8] {
        var all: [UInt8] = []
        while all.count < count {
            let more = try await stream.read(count - all.count)
            if more.isEmpty { break }
            all += more
        }
        return all
    }

    @Test func `a Go client reaches our server through our router`() async throws {
        let mesh = try await RouterTests.Mesh()
        let go = try await GoLikePeer.join(mesh.address, behindRouter: true)
        let stream = try #require(await go.dial("echo"))
        async let writing: Void = stream.write(Self.bytes)
        #expect(try await read(stream, Self.bytes.count) == Self.bytes)
        try await writing
        let lost = try #require(await go.dial("echo"))
        // Waits until the server has accepted the stream. Otherwise the shutdown would refuse it.
        try await lost.write([1])
        #expect(try await read(lost, 1) == [1])
        await mesh.server.shutdown(grace: .zero)
        await #expect(throws: GoLikeStream.LinkGone.self) { try await lost.read(1) }
        #expect(go.broken == [])
        await go.close()
        await mesh.end()
    }

    @Test func `our client reaches a Go server through our router`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let client = Node.withoutTimeouts(.client)
        try await client.join(address)
        let go = try await GoLikePeer.join(address, behindRouter: true)
        let (_, streams) = go.bind("thing")
        let stream = try await client.dial("thing", deadline: .testDeadline)
        let served = try #require(await streams.next())
        async let sending: Void = stream.send(ByteBuffer(bytes: Self.bytes), deadline: .testDeadline)
        #expect(try await read(served, Self.bytes.count) == Self.bytes)
        try await sending
        async let writing: Void = served.write(Self.bytes)
        var received = ByteBuffer()
        while received.readableBytes < Self.bytes.count, let more = try await stream.receive(deadline: .testDeadline) {
            received.writeImmutableBuffer(more)
        }
        #expect(received == ByteBuffer(bytes: Self.bytes))
        try await writing
        #expect(go.broken == [])
        await go.close()
        #expect(await stream.failure()?.code == .linkLost)
        // The router withdraws them by itself, before or after it resets the streams.
        try await eventually { client.services == [] }
        await client.shutdown()
        await router.shutdown()
    }

    @Test func `a Go client gets all sources of a Go server through our router`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let server = try await GoLikePeer.join(address, behindRouter: true)
        let client = try await GoLikePeer.join(address, behindRouter: true)
        let sources = [PlainSource(header: [1], frames: [Self.bytes, [], [2]]), PlainSource(header: [], frames: [])]
        let serving = Task { try await server.serve("service") { _ in sources } }
        #expect(try await client.post("service", [7]) == sources)
        #expect(client.broken == [])
        #expect(server.broken == [])
        await client.close()
        await server.close()
        try await serving.value
        await router.shutdown()
    }

    @Test func `our nodes reach each other through a Go router`() async throws {
        let router = try await GoLikeRouter()
        let (server, client) = (Node.withoutTimeouts(.server), Node.withoutTimeouts(.client))
        let echo = try server.echo("echo")
        for node in [server, client] {
            try await node.join(host: "127.0.0.1", port: router.port, deadline: .testDeadline)
        }
        try await client.expectEcho("echo", count: 2_000_000)
        let stream = try await client.dial("echo", sending: ByteBuffer(string: "first"), deadline: .testDeadline)
        #expect(try await stream.receive(deadline: .testDeadline) == ByteBuffer(string: "first"))
        await server.shutdown(grace: .zero)
        #expect(await stream.failure()?.code == .linkLost)
        // The router withdraws them by itself, before or after it resets the streams.
        try await eventually { client.services == [] }
        let allowed: Set<Command> = [
            .pong, .service, .noService, .dial, .syn, .ack, .synAck, .data, .rewind, .fin1, .fin2, .rst, .discover,
        ]
        for host in [server.id, client.id] {
            #expect(Set(router.sent(to: host).map(\.command)).subtracting(allowed) == [])
        }
        #expect(router.broken == [])
        echo.close()
        await client.shutdown()
        try await router.close()
    }

    @Test func `the loss of a Go router ends its streams`() async throws {
        let router = try await GoLikeRouter()
        let (server, client) = (Node.withoutTimeouts(.server), Node.withoutTimeouts(.client))
        let echo = try server.echo("echo")
        for node in [server, client] {
            try await node.join(host: "127.0.0.1", port: router.port, deadline: .testDeadline)
        }
        let stream = try await client.dial("echo", deadline: .testDeadline)
        try await router.close()
        #expect(await stream.failure()?.code == .linkLost)
        // The router withdraws them by itself, before or after it resets the streams.
        try await eventually { client.services == [] }
        echo.close()
        await client.shutdown()
        await server.shutdown()
    }
}
