import AstraNet
import NIOCore
import Testing

/// Private names, the selection of offers, and behaviour that needs an ability of the peer.
@Suite(.timeLimit(.minutes(5))) struct ScopedNameTests {
    /// Binds a name that only the client may see, and uses it from the client.
    private func useScopedName(_ server: Node, _ client: Node) async throws {
        let requests = try server.bind("request")
        let request = try await client.dial("request", deadline: .testDeadline)
        let master = try await requests.nextStream(deadline: .testDeadline)
        let scoped = try server.bind("scoped", visibleTo: master)
        let stream = try await client.dial("scoped", receivedFrom: request, deadline: .testDeadline)
        let source = try await scoped.nextStream(deadline: .testDeadline)
        try await source.send(ByteBuffer(string: "only you"))
        source.close()
        #expect(try await stream.readAll() == ByteBuffer(string: "only you"))
        stream.close()
        scoped.close()
        requests.close()
        request.close()
        master.close()
    }

    @Test func `our router announces a private name to one host only`() async throws {
        let mesh = try await RouterTests.Mesh()
        let other = try await RawPeer.connect(to: mesh.address)
        _ = await other.handshake()
        _ = await other.opsUntilPong()
        try await useScopedName(mesh.server, mesh.client)
        // The withdrawal of "request" follows all announcements of the private name.
        var heard: [String] = []
        while let op = await other.ops.next() {
            heard.append(op.text)
            if op.command == .noService, op.text == "request" { break }
        }
        #expect(!heard.contains("scoped"))
        #expect(!mesh.router.services.contains { $0.name == "scoped" })
        await other.close()
        await mesh.end()
    }

    @Test func `a Go router announces a private name to one host only`() async throws {
        let router = try await GoLikeRouter()
        let (server, client, other) = (
            Node.withoutTimeouts(.server), Node.withoutTimeouts(.client), Node.withoutTimeouts(.client)
        )
        for node in [server, client, other] {
            try await node.join(host: "127.0.0.1", port: router.port, deadline: .testDeadline)
        }
        try await useScopedName(server, client)
        try await eventually {
            router.sent(to: client.id).filter { $0.text == "scoped" }.map(\.command) == [.service, .noService]
        }
        #expect(!router.sent(to: other.id).contains { $0.text == "scoped" })
        #expect(router.broken == [])
        for node in [client, other, server] { await node.shutdown() }
        try await router.close()
    }

    @Test func `private names send no ops on other links`() async throws {
        let harness = try await HostilePeerHarness()
        let other = try await harness.handshaken()
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        let master = try await harness.target.nextStream(deadline: .testDeadline)
        let names = try (0..<1_000).map { try harness.node.bind("scoped \($0)", visibleTo: master) }
        for name in names { name.close() }
        #expect(await peer.opsUntilPong().count == 2_000)
        #expect(await other.opsUntilPong() == [])
        master.close()
        await peer.close()
        await other.close()
        try await harness.end()
    }

    @Test func `the port of a private name cannot be dialled from other links`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        let master = try await harness.target.nextStream(deadline: .testDeadline)
        let scoped = try harness.node.bind("scoped", visibleTo: master)
        let stranger = try await harness.handshaken(#"{"RAddr":"","Abilities":["refuse"]}"#)
        stranger.send(stranger.op(.dial, to: scoped.address, from: 5))
        // A DIAL with the forged source host of the permitted peer is ignored.
        stranger.send(WireOp(.dial, to: scoped.address, from: Address(peer.host, 5)))
        #expect(await stranger.opsUntilPong().map(\.command) == [.err])
        await peer.open(scoped.address, from: 6)
        scoped.close()
        await stranger.close()
        await peer.close()
        try await harness.end()
    }

    // MARK: - Selection

    @Test func `an offer that does not answer is skipped and then tried last`() async throws {
        let client = Node.withoutTimeouts {
            $0.role = .client
            $0.answerTimeout = .milliseconds(20)
        }
        let address = try await client.listening()
        let silent = try await RawPeer.connect(to: address)
        _ = await silent.handshake()
        silent.send(WireOp(.service, to: .otherEnd, from: Address(silent.host, 9), text: "echo"))
        _ = await silent.opsUntilPong()
        let server = Node.withoutTimeouts(.server)
        let echo = try server.echo("echo")
        try await server.join(address)
        try await eventually { client.services.count == 2 }
        while !client.core.directory.isPenalized(Address(silent.host, 9)) {
            try await client.expectEcho("echo")
        }
        _ = await silent.opsUntilPong()
        for _ in 0..<50 { try await client.expectEcho("echo") }
        #expect(await silent.opsUntilPong() == [])
        // Without another offer it is tried.
        await server.shutdown()
        try await eventually { client.services.count == 1 }
        let dialling = Task { try await client.dial("echo", deadline: .testDeadline) }
        #expect(await silent.first(.dial) != nil)
        dialling.cancel()
        await #expect(throws: CancellationError.self) { try await dialling.value }
        echo.close()
        await silent.close()
        await client.shutdown()
    }

    @Test func `a bucket maps to the same offer directly and through a router`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let (near, far) = (Node.withoutTimeouts(.client), Node.withoutTimeouts(.client))
        try await far.join(address)
        var servers: [Node] = []
        var echoes: [Listener] = []
        for _ in 0..<4 {
            let server = Node.withoutTimeouts(.server)
            echoes.append(try server.echo("echo"))
            try await server.join(address)
            try await near.join(try await server.listening())
            servers.append(server)
        }
        // `services` has an entry for each link that announced an offer. Direct links may come up meanwhile.
        for node in [near, far] { try await eventually { Set(node.services.map(\.address)).count == 4 } }
        var hosts: Set<HostID> = []
        for index in 0..<40 {
            var picked: Set<HostID> = []
            for node in [near, far] {
                let stream = try await node.dial("echo", bucket: "bucket \(index)", deadline: .testDeadline)
                picked.insert(stream.remoteAddress.host)
                stream.close()
            }
            #expect(picked.count == 1)
            hosts.formUnion(picked)
        }
        #expect(hosts == Set(servers.map(\.id)))
        for echo in echoes { echo.close() }
        for node in [near, far, router] + servers { await node.shutdown() }
    }

    // MARK: - Abilities

    private static let ours = #"{"RAddr":"","Abilities":["eager","refuse","window"],"MaxOp":262144}"#

    @Test func `a request follows its DIAL at once only if the peer announced eager`() async throws {
        for (json, isEager) in [(Self.ours, true), (#"{"RAddr":""}"#, false)] {
            let harness = try await HostilePeerHarness()
            let peer = try await harness.handshaken(json)
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "thing"))
            async let dialled = harness.node.dial("thing", sending: ByteBuffer(bytes: [4, 2]), deadline: .testDeadline)
            let dial = try #require(await peer.first(.dial))
            #expect(await peer.opsUntilPong().map(\.payload) == (isEager ? [[4, 2]] : []))
            peer.send(WireOp(.syn, to: dial.source, from: dial.destination))
            let stream = try await dialled
            #expect(await peer.opsUntilPong().map(\.command) == (isEager ? [] : [.ack, .data]))
            stream.close()
            await peer.close()
            try await harness.end()
        }
    }

    @Test func `ops of more than 64 KiB are sent only to a peer that announced MaxOp`() async throws {
        for (json, largest) in [
            (Self.ours, 262_144), (#"{"RAddr":"","MaxOp":100000}"#, 100_000), (#"{"RAddr":"","MaxOp":-5}"#, 65_536),
            (#"{"RAddr":"","MaxOp":999999999}"#, 262_144), (#"{"RAddr":""}"#, 65_536),
        ] {
            let harness = try await HostilePeerHarness()
            let peer = try await harness.handshaken(json)
            peer.send(peer.op(.dial, to: harness.target.address, from: 5))
            peer.send(peer.op(.ack, to: harness.target.address, from: 5))
            let stream = try await harness.target.nextStream(deadline: .testDeadline)
            peer.send(
                WireOp(.windowSize, to: harness.target.address, from: Address(peer.host, 5), number: 1 << 20))
            _ = await peer.opsUntilPong()
            let sending = Task {
                try await stream.send(ByteBuffer(repeating: 1, count: 300_000), deadline: .testDeadline)
            }
            #expect(await peer.first(.data)?.payload.count == largest)
            try await sending.value
            stream.close()
            await peer.close()
            try await harness.end()
        }
    }
}
