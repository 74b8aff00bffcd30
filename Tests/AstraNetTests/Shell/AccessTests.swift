import AstraNet
import NIOCore
import Testing

/// What peers may do by the access rules of a node.
@Suite(.timeLimit(.minutes(5))) struct AccessTests {
    /// A node with a listener for each identity, and rules. A well-behaved peer with the identity `friend` serves `pay`.
    private struct Guarded {
        let node = Node.withoutTimeouts(.router)
        let friend = Node.withoutTimeouts(.server)
        let pay: Listener
        private let addresses: [String: SocketAddress]

        init(_ rules: AccessRules) async throws {
            node.access = rules
            var addresses: [String: SocketAddress] = [:]
            for name in ["friend", "stranger", "relay"] {
                addresses[name] = try await node.listen(
                    at: .tcp(host: "127.0.0.1", port: 0), security: StubSecurity(uri: "test:\(name)"))
            }
            self.addresses = addresses
            pay = try friend.echo("pay")
            try await friend.join(addresses["friend"]!)
            try await eventually { [node] in node.services.contains { $0.name == "pay" } }
        }

        func address(of name: String) -> SocketAddress { addresses[name]! }

        func join(_ joining: Node, as name: String) async throws {
            try await joining.join(addresses[name]!)
        }

        func raw(as name: String, host: HostID = .random()) async throws -> RawPeer {
            let peer = try await RawPeer.connect(to: addresses[name]!, host: host)
            _ = try #require(await peer.handshake())
            return peer
        }

        func end() async {
            pay.close()
            await friend.shutdown()
            await node.shutdown()
        }
    }

    private static let rules = AccessRules.testing(
        ["friend", "stranger", "relay"], announce: ["pay": ["friend"], "*": ["friend", "relay"]], relay: ["relay"])

    private static let sourceName = "0a1b2c3d-0000-4000-8000-00000000000f"

    @Test func `a service of a peer that may not announce it is not dialled and not passed on`() async throws {
        let guarded = try await Guarded(Self.rules)
        let hostile = try await guarded.raw(as: "stranger")
        for name in ["pay", "other", Self.sourceName] {
            hostile.send(WireOp(.service, to: .otherEnd, from: Address(hostile.host, 99), text: name))
        }
        _ = await hostile.opsUntilPong()
        #expect(guarded.node.refused.forbiddenServices == 3)
        let client = Node.withoutTimeouts(.client)
        try await guarded.join(client, as: "friend")
        for _ in 0..<20 { try await client.expectEcho("pay") }
        #expect(client.services.map(\.name) == ["pay"])
        #expect(guarded.node.services.map(\.name) == ["pay"])
        await client.shutdown()
        await guarded.end()
    }

    @Test func `a peer that may not relay sends only messages of its own host`() async throws {
        let guarded = try await Guarded(Self.rules)
        let target = try guarded.node.echo("target")
        let client = Node.withoutTimeouts(.client)
        try await guarded.join(client, as: "friend")
        let stream = try await client.dial("target", deadline: .testDeadline)
        try await stream.expectEcho(count: 10)
        let hostile = try await guarded.raw(as: "stranger")
        let victim = stream.localAddress
        for command in [Command.data, .fin1, .fin2, .err, .rst, .service, .noService, .dial] {
            hostile.send(WireOp(command, to: stream.remoteAddress, from: victim, text: "target"))
        }
        _ = await hostile.opsUntilPong()
        #expect(guarded.node.refused.forgedOps == 8)
        try await stream.expectEcho(count: 1_000)
        #expect(client.services.contains { $0.name == "target" })
        target.close()
        await client.shutdown()
        await guarded.end()
    }

    @Test func `the host id 0 stands for the peer only in PONG`() async throws {
        let guarded = try await Guarded(Self.rules)
        let target = try guarded.node.echo("target")
        let hostile = try await guarded.raw(as: "friend")
        let nobody = Address(HostID(rawValue: 0), 9)
        hostile.send(WireOp(.pong, to: .otherEnd, from: nobody))
        _ = await hostile.opsUntilPong()
        let before = guarded.node.refused.forgedOps
        for command in [Command.service, .follow, .dial, .rst, .discover] {
            hostile.send(WireOp(command, to: target.address, from: nobody, text: "pay"))
        }
        #expect(await hostile.opsUntilPong().isEmpty)
        #expect(guarded.node.refused.forgedOps == before + 5)
        await hostile.close()
        target.close()
        await guarded.end()
    }

    @Test func `a peer that may relay sends messages of other hosts`() async throws {
        let guarded = try await Guarded(Self.rules)
        let target = try guarded.node.echo("target")
        let relay = try await guarded.raw(as: "relay")
        let behind = Address(.random(), 77)
        relay.send(WireOp(.dial, to: target.address, from: behind))
        #expect(await relay.first(.syn) == WireOp(.syn, to: behind, from: target.address))
        #expect(guarded.node.refused.forgedOps == 0)
        await relay.close()
        target.close()
        await guarded.end()
    }

    @Test func `a link with the host id of another identity is refused`() async throws {
        let guarded = try await Guarded(Self.rules)
        let hostile = try await RawPeer.connect(
            to: guarded.address(of: "stranger"), host: guarded.friend.id)
        hostile.sendHandshake()
        await hostile.closed()
        #expect(guarded.node.refused.forgedHosts == 1)
        try await guarded.node.expectEcho("pay")
        // The same identity may have several links.
        let second = try await guarded.raw(as: "friend", host: guarded.friend.id)
        _ = await second.opsUntilPong()
        await second.close()
        await guarded.end()
    }

    @Test func `changed rules apply to links that are up`() async throws {
        let guarded = try await Guarded(Self.rules)
        let other = Node.withoutTimeouts(.server)
        let news = try other.echo("news")
        try await guarded.join(other, as: "stranger")
        try await eventually { guarded.node.refused.forbiddenServices == 1 }
        #expect(guarded.node.services.map(\.name) == ["pay"])

        guarded.node.access = .testing(["friend", "stranger"], announce: ["news": ["stranger"]])
        try await eventually { guarded.node.services.map(\.name) == ["news"] }
        try await guarded.node.expectEcho("news")

        guarded.node.access = nil
        try await eventually { guarded.node.services.map(\.name) == ["news", "pay"] }
        guarded.node.access = Self.rules
        try await eventually { guarded.node.services.map(\.name) == ["pay"] }
        news.close()
        await other.shutdown()
        await guarded.end()
    }

    @Test func `a router writes the identity of the caller and removes a claimed one`() async throws {
        let guarded = try await Guarded(Self.rules)
        let server = Node.withoutTimeouts(.server)
        server.access = .testing(["friend", "stranger", "router"], announce: ["*": ["router"]], relay: ["router"])
        let callers = EventQueue<[String]>()
        let who = try server.bind("who") { stream in
            callers.append([stream.callerIdentity.name] + stream.callerIdentity.identities)
            return .refused("seen")
        }
        let address = try await server.listen(
            at: .tcp(host: "127.0.0.1", port: 0), security: StubSecurity(uri: "test:router"))
        // The router's own rules let the server announce.
        guarded.node.access = .testing(
            ["friend", "stranger"], announce: ["who": [AccessRules.anyone], "*": ["friend"]], relay: [])
        try await guarded.node.join(address)
        try await eventually { guarded.node.services.contains { $0.name == "who" } }

        for name in ["friend", "stranger"] {
            let hostile = try await guarded.raw(as: name)
            for claim in [nil, "uri test:friend"] {
                var block = DialBlock(meta: "x")
                block.identity = claim
                var payload = ByteBuffer()
                block.encode(into: &payload)
                hostile.send(
                    hostile.op(
                        .dial, to: who.address, from: claim == nil ? 8 : 9, payload: Array(payload.readableBytesView)))
                hostile.send(hostile.op(.ack, to: who.address, from: claim == nil ? 8 : 9))
                #expect(await callers.next() == ["test:\(name)", name])
            }
            await hostile.close()
        }
        who.close()
        await server.shutdown()
        await guarded.end()
    }

    @Test func `the identity that a peer without the right to relay claims is not believed`() async throws {
        let guarded = try await Guarded(Self.rules)
        let callers = EventQueue<String>()
        let who = try guarded.node.bind("who") { stream in
            callers.append(stream.callerIdentity.name)
            return .refused("seen")
        }
        let hostile = try await guarded.raw(as: "stranger")
        var block = DialBlock(meta: "x")
        block.identity = "uri test:friend"
        var payload = ByteBuffer()
        block.encode(into: &payload)
        hostile.send(hostile.op(.dial, to: who.address, from: 8, payload: Array(payload.readableBytesView)))
        hostile.send(hostile.op(.ack, to: who.address, from: 8))
        #expect(await callers.next() == "test:stranger")
        who.close()
        await guarded.end()
    }

    @Test func `a router forwards no announcement to one host that the peer may not make`() async throws {
        let guarded = try await Guarded(Self.rules)
        let client = Node.withoutTimeouts(.client)
        try await guarded.join(client, as: "friend")
        let hostile = try await guarded.raw(as: "stranger")
        for name in ["pay", Self.sourceName, Self.sourceName + ".staging"] {
            hostile.send(WireOp(.service, to: Address(client.id, 0), from: Address(hostile.host, 99), text: name))
        }
        _ = await hostile.opsUntilPong()
        try await eventually { client.services.contains { $0.name == Self.sourceName + ".staging" } }
        #expect(client.services.contains { $0.name == Self.sourceName })
        #expect(client.services.filter { $0.name == "pay" }.count == 1)
        #expect(guarded.node.refused.forbiddenServices == 1)
        await hostile.close()
        await client.shutdown()
        await guarded.end()
    }

    @Test func `the names of sources that a server announces to a guarded client are dialled`() async throws {
        let client = Node.withoutTimeouts(.client)
        client.access = .testing(["server"], announce: ["pay": ["server"]])
        let server = Node.withoutTimeouts(.server)
        let address = try await server.listening()
        let pay = try server.bind("pay")
        try await client.join(
            .tcp(host: "127.0.0.1", port: address.port!), security: StubSecurity(uri: "test:server"),
            deadline: .testDeadline)
        let request = try await client.dial("pay", deadline: .testDeadline)
        let accepted = try await pay.nextStream(deadline: .testDeadline)
        let source = try server.bind(Self.sourceName, visibleTo: accepted)
        let secret = try server.bind("secret", visibleTo: accepted)
        try await accepted.send(ByteBuffer(string: "named"), deadline: .testDeadline)
        _ = try await request.receive(deadline: .testDeadline)
        try await eventually { client.services.contains { $0.name == Self.sourceName } }
        #expect(!client.services.contains { $0.name == "secret" })
        for listener in [source, secret, pay] { listener.close() }
        await client.shutdown()
        await server.shutdown()
    }

    // MARK: - Host ids

    @Test func `the id of a host stays its own while the host has no link`() async throws {
        let guarded = try await Guarded(Self.rules)
        let host = HostID.random()
        let first = try await guarded.raw(as: "friend", host: host)
        _ = await first.opsUntilPong()
        await first.close()
        try await eventually { !guarded.node.listing.links.contains { $0.peer == host } }
        let hostile = try await RawPeer.connect(to: guarded.address(of: "stranger"), host: host)
        hostile.sendHandshake()
        await hostile.closed()
        #expect(guarded.node.refused.forgedHosts == 1)
        let second = try await guarded.raw(as: "friend", host: host)
        _ = await second.opsUntilPong()
        #expect(guarded.node.listing.links.count { $0.peer == host } == 1)
        await second.close()
        await guarded.end()
    }

    @Test func `changed rules give the id of a host without a link to the next peer`() async throws {
        let guarded = try await Guarded(Self.rules)
        let host = HostID.random()
        let first = try await guarded.raw(as: "friend", host: host)
        _ = await first.opsUntilPong()
        await first.close()
        try await eventually { !guarded.node.listing.links.contains { $0.peer == host } }
        guarded.node.access = Self.rules
        let second = try await guarded.raw(as: "relay", host: host)
        _ = await second.opsUntilPong()
        #expect(guarded.node.refused.forgedHosts == 0)
        await second.close()
        await guarded.end()
    }

    @Test func `a peer that the rules name takes the id of its host back from one that they do not name`() async throws
    {
        let guarded = try await Guarded(.testing(["friend"], announce: ["pay": ["friend"]]))
        let host = HostID.random()
        let hostile = try await guarded.raw(as: "stranger", host: host)
        _ = await hostile.opsUntilPong()
        let friend = try await guarded.raw(as: "friend", host: host)
        await hostile.closed()
        _ = await friend.opsUntilPong()
        friend.send(WireOp(.service, to: .otherEnd, from: Address(host, 99), text: "pay"))
        try await eventually { guarded.node.services.contains { $0.address == Address(host, 99) } }
        #expect(guarded.node.listing.links.count { $0.peer == host } == 1)
        await friend.close()
        await guarded.end()
    }

    // MARK: - Changes of the right to relay

    @Test func `a link with messages of other hosts is closed when its peer may carry them no more`() async throws {
        let guarded = try await Guarded(Self.rules)
        let relay = try await guarded.raw(as: "relay")
        let quiet = try await guarded.raw(as: "relay")
        relay.send(WireOp(.service, to: .otherEnd, from: Address(.random(), 99), text: "behind"))
        try await eventually { guarded.node.services.contains { $0.name == "behind" } }
        var rules = Self.rules
        rules.relay = []
        guarded.node.access = rules
        await relay.closed()
        try await eventually { guarded.node.services.map(\.name) == ["pay"] }
        // A peer that has carried nothing keeps its link.
        _ = await quiet.opsUntilPong()
        await quiet.close()
        await guarded.end()
    }

    @Test func `a link whose messages of other hosts were dropped is closed when its peer may carry them`() async throws
    {
        let guarded = try await Guarded(Self.rules)
        let router = try await guarded.raw(as: "stranger")
        router.send(WireOp(.service, to: .otherEnd, from: Address(.random(), 99), text: "behind"))
        _ = await router.opsUntilPong()
        var rules = Self.rules
        rules.relay = ["stranger"]
        guarded.node.access = rules
        await router.closed()
        await guarded.end()
    }

    // MARK: - Names of sources

    @Test func `the name of a source is dialled only at the host that has sent it`() async throws {
        let client = Node.withoutTimeouts(.client)
        let server = Node.withoutTimeouts(.server)
        let pay = try server.bind("pay")
        try await client.join(try await server.listening())
        let request = try await client.dial("pay", deadline: .testDeadline)
        let accepted = try await pay.nextStream(deadline: .testDeadline)
        let hostile = try await RawPeer.connect(to: try await client.listening())
        _ = await hostile.handshake()
        hostile.send(WireOp(.service, to: .otherEnd, from: Address(hostile.host, 99), text: Self.sourceName))
        _ = await hostile.opsUntilPong()
        try await eventually { client.services.contains { $0.name == Self.sourceName } }
        // The first dial waits for the announcement of the server.
        async let first = client.dial(Self.sourceName, DialRequest(peer: request), deadline: .testDeadline)
        let source = try server.bind(Self.sourceName, visibleTo: accepted)
        _ = try await first
        for _ in 0..<20 {
            _ = try await client.dial(Self.sourceName, DialRequest(peer: request), deadline: .testDeadline)
        }
        #expect(await hostile.opsUntilPong().allSatisfy { $0.command != .dial })
        for listener in [source, pay] { listener.close() }
        await hostile.close()
        await client.shutdown()
        await server.shutdown()
    }
}
