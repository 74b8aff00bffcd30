import AstraNet
import NIOCore
import Testing

/// Two nodes with a link between them, over a real socket.
struct Pair {
    let server: Node
    let client: Node

    init(environment: String = "") async throws {
        let configuration = NodeConfiguration.withoutTimeouts(environment: environment)
        server = Node(configuration: configuration)
        client = Node(configuration: configuration)
        let address = try await server.listen(host: "127.0.0.1", port: 0)
        let peer = try await client.join(host: "127.0.0.1", port: address.port!, deadline: .testDeadline)
        #expect(peer == server.id)
    }

    /// Both ends of a stream that the client dialled.
    func stream(_ name: String = "service") async throws -> (client: AstraNet.MeshStream, server: AstraNet.MeshStream) {
        let listener = try server.bind(name)
        let dialled = try await client.dial(name, deadline: .testDeadline)
        let accepted = try await listener.nextStream(deadline: .testDeadline)
        listener.close()
        return (dialled, accepted)
    }

    func shutdown() async {
        await client.shutdown()
        await server.shutdown()
    }
}

extension AstraNet.MeshStream {
    /// All bytes up to the end of file.
    func readAll() async throws -> ByteBuffer {
        var all = ByteBuffer()
        while let bytes = try await receive(deadline: .testDeadline) { all.writeImmutableBuffer(bytes) }
        return all
    }
}

@Suite struct NodeTests {
    @Test func `a dialled stream carries bytes in both directions`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        try await client.send(ByteBuffer(string: "ping"))
        #expect(try await server.receive(deadline: .testDeadline) == ByteBuffer(string: "ping"))
        try await server.send(ByteBuffer(string: "pong"))
        server.close()
        #expect(try await client.readAll() == ByteBuffer(string: "pong"))
        client.close()
        await pair.shutdown()
    }

    @Test(arguments: [1, 65_535, 65_536, 65_537, 10_000_000])
    func `a stream carries more bytes than its window`(size: Int) async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        let sent = ByteBuffer(bytes: (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) })
        async let received = client.readAll()
        try await server.send(sent, deadline: .testDeadline)
        server.close()
        #expect(try await received == sent)
        client.close()
        await pair.shutdown()
    }

    @Test func `a failure arrives after the bytes and is not an end of file`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        try await server.send(ByteBuffer(string: "some"))
        server.fail("the disk is full")
        #expect(try await client.receive(deadline: .testDeadline) == ByteBuffer(string: "some"))
        await #expect(throws: AstraNetError(.failedByPeer, "the disk is full")) {
            try await client.receive(deadline: .testDeadline)
        }
        await pair.shutdown()
    }

    @Test func `a node that was shut down refuses to listen`() async throws {
        let node = Node(configuration: .withoutTimeouts())
        await node.shutdown()
        let error = await #expect(throws: AstraNetError.self) { try await node.listen(host: "127.0.0.1", port: 0) }
        #expect(error?.message.contains("the node is closed") == true)
    }

    @Test func `an aborted stream keeps no bytes for a peer that does not read`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        // Returns once the first window is in flight.
        try await server.send(ByteBuffer(repeating: 1, count: 90_000), deadline: .testDeadline)
        await #expect(throws: AstraNetError.self) {
            try await server.send(ByteBuffer(repeating: 1, count: 100_000), deadline: .now + .milliseconds(1))
        }
        server.abort("too slow")
        // The bytes in flight arrive, then the failure. The failure does not wait for credit for the queued bytes.
        var received = 0
        await #expect(throws: AstraNetError(.failedByPeer, "too slow")) {
            while let bytes = try await client.receive(deadline: .testDeadline) { received += bytes.readableBytes }
        }
        #expect(received == 65_536)
        await pair.shutdown()
    }

    @Test func `a reader that closes stops the writer`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        let gone = AsyncStream<Void> { continuation in server.onPeerClosed { continuation.finish() } }
        client.close()
        for await _ in gone {}
        let error = await #expect(throws: AstraNetError.self) {
            while true { try await server.send(ByteBuffer(repeating: 1, count: 10_000), deadline: .testDeadline) }
        }
        #expect(error?.code == .closedByPeer)
        await pair.shutdown()
    }

    @Test func `a broken link fails its streams`() async throws {
        let pair = try await Pair()
        let (client, _) = try await pair.stream()
        let outcome = Task { try await client.receive(deadline: .testDeadline) }
        await pair.server.shutdown(grace: .zero)
        let error = await #expect(throws: AstraNetError.self) { try await outcome.value }
        #expect(error?.code == .linkLost)
        await pair.client.shutdown()
    }

    @Test func `a dial waits until its service is announced`() async throws {
        let pair = try await Pair()
        async let dialled = pair.client.dial("late", deadline: .testDeadline)
        let listener = try pair.server.bind("late")
        _ = try await listener.nextStream(deadline: .testDeadline)
        _ = try await dialled
        await pair.shutdown()
    }

    @Test func `a dial of a name without offers fails at its deadline`() async throws {
        let pair = try await Pair()
        let error = await #expect(throws: AstraNetError.self) {
            try await pair.client.dial("nothing", deadline: .now + .milliseconds(20))
        }
        #expect(error?.code == .noOffer)
        await pair.shutdown()
    }

    @Test func `a wait ends when its task is cancelled`() async throws {
        let pair = try await Pair()
        let (client, _) = try await pair.stream()
        let reading = Task { try await client.receive() }
        let dialling = Task { try await pair.client.dial("nothing", deadline: .testDeadline) }
        reading.cancel()
        dialling.cancel()
        await #expect(throws: CancellationError.self) { try await reading.value }
        await #expect(throws: CancellationError.self) { try await dialling.value }
        await pair.shutdown()
    }

    @Test func `a name visible to one link is known only there`() async throws {
        let pair = try await Pair()
        let other = Node()
        let address = try await pair.server.listen(host: "127.0.0.1", port: 0)
        try await other.join(host: "127.0.0.1", port: address.port!, deadline: .testDeadline)
        let (_, server) = try await pair.stream()
        let scoped = try pair.server.bind("scoped", visibleTo: server)
        let unrestricted = try pair.server.bind("public")
        _ = try await pair.client.dial("scoped", deadline: .testDeadline)
        _ = try await other.dial("public", deadline: .testDeadline)
        #expect(!other.services.contains { $0.name == "scoped" })
        scoped.close()
        unrestricted.close()
        await other.shutdown()
        await pair.shutdown()
    }

    @Test func `a name visible to one link ends with the link`() async throws {
        let pair = try await Pair()
        let (_, server) = try await pair.stream()
        let scoped = try pair.server.bind("scoped", visibleTo: server)
        let accepting = Task { try await scoped.nextStream(deadline: .testDeadline) }
        await pair.client.shutdown(grace: .zero)
        let error = await #expect(throws: AstraNetError.self) { try await accepting.value }
        #expect(error?.code == .closed)
        await pair.server.shutdown()
    }

    @Test func `names in an environment have its suffix on the wire`() async throws {
        let pair = try await Pair(environment: "a.b")
        let (_, _) = try await pair.stream("echo")
        let listener = try pair.server.bind("other")
        _ = try await pair.client.dial("other", deadline: .testDeadline)
        #expect(listener.name == "other.a.b")
        #expect(pair.client.services.map(\.name) == ["other.a.b"])
        await pair.shutdown()
    }

    @Test func `a node does not join itself`() async throws {
        let node = Node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        await #expect(throws: AstraNetError.self) {
            try await node.join(host: "127.0.0.1", port: address.port!, deadline: .testDeadline)
        }
        await node.shutdown()
    }

    @Test func `the error for an address in use contains the address`() async throws {
        let node = Node()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let error = await #expect(throws: AstraNetError.self) {
            try await node.listen(host: "127.0.0.1", port: address.port!)
        }
        #expect(error?.code == .addressInUse)
        #expect(error?.message.contains("127.0.0.1:\(address.port!)") == true)
        await node.shutdown()
    }

    @Test func `a node that keeps joined connects again after a lost link`() async throws {
        // Not 127.0.0.1: a connection of another test could take the port between the two listeners.
        let host = "127.0.0.2"
        let client = Node()
        let first = Node()
        let address = try await first.listen(host: host, port: 0)
        _ = try first.bind("one")
        let joining = Task { await client.keepJoined(host: host, port: address.port!) }
        _ = try await client.dial("one", deadline: .testDeadline)
        await first.shutdown(grace: .zero)
        let second = Node()
        try await second.listen(host: host, port: address.port!)
        _ = try second.bind("two")
        _ = try await client.dial("two", deadline: .testDeadline)
        joining.cancel()
        await joining.value
        await client.shutdown()
        await second.shutdown()
    }

    @Test func `200 concurrent streams each carry their own bytes`() async throws {
        let pair = try await Pair()
        let listener = try pair.server.bind("echo")
        let serving = Task {
            try await withThrowingDiscardingTaskGroup { group in
                for _ in 0..<200 {
                    let stream = try await listener.nextStream(deadline: .testDeadline)
                    group.addTask {
                        try await stream.send(try await stream.readAll(), deadline: .testDeadline)
                        stream.close()
                    }
                }
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<200 {
                group.addTask {
                    let stream = try await pair.client.dial("echo", deadline: .testDeadline)
                    let body = ByteBuffer(repeating: UInt8(index), count: index * 100)
                    try await stream.send(body, deadline: .testDeadline)
                    stream.finish()
                    #expect(try await stream.readAll() == body)
                    stream.close()
                }
            }
            try await group.waitForAll()
        }
        try await serving.value
        await pair.shutdown()
    }
}
