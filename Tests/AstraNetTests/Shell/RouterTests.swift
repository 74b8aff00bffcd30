import AstraNet
import NIOCore
import Testing

/// Streams through a router of this library.
@Suite(.timeLimit(.minutes(5))) struct RouterTests {
    /// A client and a server that reach each other only through a router.
    struct Mesh {
        let router = Node.withoutTimeouts(.router)
        let server = Node.withoutTimeouts(.server)
        let client = Node.withoutTimeouts(.client)
        let address: SocketAddress
        let echo: Listener

        init() async throws {
            address = try await router.listening()
            echo = try server.echo("echo")
            try await server.join(address)
            try await client.join(address)
        }

        func end() async {
            echo.close()
            for node in [client, server, router] { await node.shutdown() }
        }
    }

    @Test(arguments: [1, 65_536, 10_000_000])
    func `bytes pass in both directions through a router`(count: Int) async throws {
        let mesh = try await Mesh()
        try await mesh.client.expectEcho("echo", count: count)
        #expect(mesh.client.services.map(\.isRelayed) == [true])
        #expect(mesh.client.peers == [mesh.router.id])
        await mesh.end()
    }

    @Test func `200 concurrent streams pass through a router`() async throws {
        let mesh = try await Mesh()
        try await withThrowingDiscardingTaskGroup { group in
            for index in 0..<200 {
                group.addTask { try await mesh.client.expectEcho("echo", count: index * 997) }
            }
        }
        #expect(mesh.router.listing.refused == .init())
        try await eventually { mesh.router.core.buffered.held == 0 }
        await mesh.end()
    }

    @Test func `the loss of a server ends its streams at once, and another server takes over`() async throws {
        let mesh = try await Mesh()
        let other = Node.withoutTimeouts(.server)
        try await other.join(mesh.address)
        let steady = try other.echo("steady")
        let stream = try await mesh.client.dial("echo", deadline: .testDeadline)
        let untouched = try await mesh.client.dial("steady", deadline: .testDeadline)
        try await stream.expectEcho(count: 10)
        await mesh.server.shutdown(grace: .zero)
        #expect(await stream.failure()?.code == .linkLost)
        #expect(!mesh.client.services.contains { $0.name == "echo" })
        try await untouched.expectEcho(count: 1_000)
        let second = try other.echo("echo")
        try await mesh.client.expectEcho("echo")
        for listener in [steady, second] { listener.close() }
        await other.shutdown()
        await mesh.end()
    }

    @Test func `the loss of a client ends its streams at the server at once`() async throws {
        let mesh = try await Mesh()
        let target = try mesh.server.bind("target")
        let other = Node.withoutTimeouts(.client)
        try await other.join(mesh.address)
        let untouched = try await other.dial("echo", deadline: .testDeadline)
        let stream = try await mesh.client.dial("target", deadline: .testDeadline)
        let accepted = try await target.nextStream(deadline: .testDeadline)
        await mesh.client.shutdown(grace: .zero)
        #expect(await accepted.failure()?.code == .linkLost)
        try await untouched.expectEcho(count: 1_000)
        stream.close()
        await other.shutdown()
        await mesh.end()
    }

    @Test func `the loss of a router ends its streams, and another router takes over`() async throws {
        let mesh = try await Mesh()
        let stream = try await mesh.client.dial("echo", deadline: .testDeadline)
        try await stream.expectEcho(count: 10)
        let second = Node.withoutTimeouts(.router)
        let address = try await second.listening()
        try await mesh.server.join(address)
        try await mesh.client.join(address)
        await mesh.router.shutdown(grace: .zero)
        #expect(await stream.failure()?.code == .linkLost)
        try await mesh.client.expectEcho("echo")
        await second.shutdown()
        await mesh.end()
    }

    @Test func `a stream that ended before its host shut down stays complete`() async throws {
        let mesh = try await Mesh()
        let target = try mesh.server.bind("target")
        let stream = try await mesh.client.dial("target", deadline: .testDeadline)
        let accepted = try await target.nextStream(deadline: .testDeadline)
        try await accepted.send(ByteBuffer(repeating: 7, count: 60_000), deadline: .testDeadline)
        accepted.close()
        await mesh.server.shutdown()
        #expect(try await stream.readAll().readableBytes == 60_000)
        stream.close()
        await mesh.end()
    }

    @Test func `a dial that gets no answer through a router uses the next offer`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let silent = try await RawPeer.connect(to: address)
        _ = await silent.handshake()
        silent.send(WireOp(.service, to: .otherEnd, from: Address(silent.host, 9), text: "echo"))
        _ = await silent.opsUntilPong()
        let client = Node.withoutTimeouts {
            $0.role = .client
            $0.answerTimeout = .milliseconds(20)
        }
        try await client.join(address)
        let server = Node.withoutTimeouts(.server)
        let echo = try server.echo("echo")
        try await server.join(address)
        try await eventually { client.services.count == 2 }
        for _ in 0..<10 { try await client.expectEcho("echo") }
        echo.close()
        await silent.close()
        for node in [client, server, router] { await node.shutdown() }
    }

    @Test func `a router announces and withdraws services to earlier and later nodes`() async throws {
        let mesh = try await Mesh()
        let one = try mesh.server.echo("one")
        try await mesh.client.expectEcho("one")
        let late = Node.withoutTimeouts(.client)
        try await late.join(mesh.address)
        try await late.expectEcho("one")
        one.close()
        // The announcement follows the withdrawal of "one".
        let two = try mesh.server.echo("two")
        for node in [mesh.client, late] {
            try await node.expectEcho("two")
            #expect(!node.services.contains { $0.name == "one" })
        }
        two.close()
        await late.shutdown()
        await mesh.end()
    }

    @Test func `a node that is not a router forwards no ops and relays no offers`() async throws {
        for role in [NodeConfiguration.Role.client, .server, .peer] {
            let middle = Node.withoutTimeouts(role)
            let address = try await middle.listening()
            let server = try await RawPeer.connect(to: address)
            _ = await server.handshake()
            server.send(WireOp(.service, to: .otherEnd, from: Address(server.host, 9), text: "thing"))
            _ = await server.opsUntilPong()
            let client = try await RawPeer.connect(to: address)
            _ = await client.handshake()
            client.send(client.op(.dial, to: Address(server.host, 9), from: 5))
            #expect(await client.opsUntilPong() == [])
            #expect(await server.opsUntilPong() == [])
            await client.close()
            await server.close()
            await middle.shutdown()
        }
    }

    @Test func `a router does not relay relayed offers`() async throws {
        let (left, right) = (Node.withoutTimeouts(.router), Node.withoutTimeouts(.router))
        let address = try await left.listening()
        try await right.join(address)
        let rightAddress = try await right.listening()
        let server = Node.withoutTimeouts(.server)
        let echo = try server.echo("echo")
        try await server.join(address)
        let near = Node.withoutTimeouts(.client)
        try await near.join(address)
        try await near.expectEcho("echo")
        let far = try await RawPeer.connect(to: rightAddress)
        #expect(await far.handshake() == right.id)
        try await eventually { right.services.contains { $0.isRelayed } }
        #expect(await far.opsUntilPong().filter { $0.command == .service } == [])
        await far.close()
        echo.close()
        for node in [near, server, right, left] { await node.shutdown() }
    }
}
