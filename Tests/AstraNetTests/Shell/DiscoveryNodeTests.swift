import AstraNet
import NIOCore
import Testing

/// Direct paths behind a router, `keepJoined`, and attached connections.
@Suite(.timeLimit(.minutes(5))) struct DirectPathTests {
    @Test func `a peer behind a router finds the direct path and uses it`() async throws {
        let (router, server, client) = (
            Node.withoutTimeouts(.router), Node.withoutTimeouts(.server), Node.withoutTimeouts(.peer)
        )
        let address = try await router.listening()
        try await server.listening()
        let echo = try server.echo("echo")
        try await server.join(address)
        try await client.join(address)
        try await eventually { client.peers == [router.id, server.id] }
        try await eventually { client.services.contains { !$0.isRelayed } }
        await router.shutdown(grace: .zero)
        try await client.expectEcho("echo", count: 100_000)
        #expect(client.listing.links.map(\.isDialled) == [true])
        echo.close()
        for node in [client, server] { await node.shutdown() }
    }

    @Test func `a node with the role server makes no links by itself`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let peer = try await RawPeer.connect(to: address)
        _ = await peer.handshake()
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "thing"))
        _ = await peer.opsUntilPong()
        let server = Node.withoutTimeouts(.server)
        let late = try server.bind("late")
        try await server.join(address)
        #expect(await peer.first(.service)?.text == "late")
        // The router announces each to the other, in any order.
        try await eventually { server.services.map(\.name) == ["thing"] }
        #expect(await peer.opsUntilPong().contains { $0.command == .discover } == false)
        late.close()
        await peer.close()
        for node in [server, router] { await node.shutdown() }
    }

    @Test func `without a working direct path the router is used`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let go = try await GoLikePeer.join(address, behindRouter: true)
        let (_, streams) = go.bind("thing")
        let client = Node.withoutTimeouts(.peer)
        try await client.join(address)
        for round: UInt8 in 1...3 {
            let stream = try await client.dial("thing", deadline: .testDeadline)
            try await stream.send(ByteBuffer(bytes: [round]))
            #expect(try await streams.next()?.read(10) == [round])
            stream.close()
        }
        #expect(client.peers == [router.id])
        #expect(go.broken == [])
        await go.close()
        for node in [client, router] { await node.shutdown() }
    }

    /// The peer announces a host behind it, and a FOLLOW that names a listening socket as the address of that host.
    @Test func `a FOLLOW is used only for a host that was asked, and only if that host answers`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        let place = try await RawPeer.listen()
        let far = Address(.random(), 9)
        let follow = WireOp(
            .follow, to: Address(harness.node.id, 0), from: Address(far.host, 0), text: "127.0.0.1:\(place.port)")
        // This FOLLOW is unsolicited.
        peer.send(follow)
        _ = await peer.opsUntilPong()
        #expect(harness.node.core.joiner.isIdle)
        peer.send(WireOp(.service, to: .otherEnd, from: far, text: "far"))
        #expect(await peer.first(.discover)?.destination.host == far.host)
        for text in ["name:5", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "\u{0}:1", ""] {
            peer.send(
                WireOp(.follow, to: Address(harness.node.id, 0), from: Address(far.host, 0), text: text))
        }
        _ = await peer.opsUntilPong()
        #expect(harness.node.core.joiner.isIdle)
        peer.send(follow)
        let other = try #require(await place.peers.next())
        #expect(await other.handshake() == harness.node.id)
        await other.closed()
        try await eventually { !harness.node.peers.contains(other.host) }
        // The withdrawal of its last offer ends the interest in the host.
        peer.send(WireOp(.noService, to: .otherEnd, from: far, text: "far"))
        _ = await peer.opsUntilPong()
        #expect(harness.node.core.joiner.isIdle)
        try await place.close()
        await peer.close()
        try await harness.end()
    }

    @Test func `a FOLLOW with the node's own address makes no link`() async throws {
        let harness = try await HostilePeerHarness()
        let before = harness.node.peers
        let peer = try await harness.handshaken()
        let far = Address(.random(), 9)
        peer.send(WireOp(.service, to: .otherEnd, from: far, text: "far"))
        _ = await peer.first(.discover)
        for host in [far.host, harness.node.id] {
            peer.send(
                WireOp(
                    .follow, to: .otherEnd, from: Address(host, 0), text: "127.0.0.1:\(harness.address.port!)"))
        }
        _ = await peer.opsUntilPong()
        #expect(harness.node.peers == before.union([peer.host]))
        await peer.close()
        try await harness.end()
    }

    @Test func `answers to a flood of DISCOVER are limited`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        let count = 50_000
        // Answering all of them would take 25 minutes.
        peer.send((0..<count).map { _ in peer.op(.discover, to: Address(harness.node.id, 0), from: 0) })
        let answers = await peer.opsUntilPong()
        #expect(answers.allSatisfy { $0.command == .follow })
        #expect(answers.count >= 1_024 && answers.count < count)
        await peer.close()
        try await harness.end()
    }

    @Test func `a DISCOVER is answered with the listening address unless the role is client`() async throws {
        for (role, isAnswered) in [
            (NodeConfiguration.Role.server, true), (.peer, true), (.router, true), (.client, false),
        ] {
            let node = Node.withoutTimeouts(role)
            let address = try await node.listening()
            let peer = try await RawPeer.connect(to: address)
            _ = await peer.handshake()
            _ = await peer.opsUntilPong()
            peer.send(WireOp(.discover, to: Address(node.id, 0), from: Address(peer.host, 0)))
            let answers = await peer.opsUntilPong()
            #expect(answers.map(\.command) == (isAnswered ? [.follow] : []))
            #expect(answers.map(\.text) == (isAnswered ? ["127.0.0.1:\(address.port!)"] : []))
            await peer.close()
            await node.shutdown()
        }
    }

    @Test func `two nodes that join each other at the same time end with one link`() async throws {
        let (one, two) = (Node.withoutTimeouts(.peer), Node.withoutTimeouts(.peer))
        let (first, second) = (try await one.listening(), try await two.listening())
        async let there: Void = one.join(second)
        async let back: Void = two.join(first)
        _ = try await (there, back)
        let echo = try two.echo("echo")
        let stream = try await one.dial("echo", deadline: .testDeadline)
        try await stream.expectEcho(count: 10)
        // The stream may use the link that is retired, and keeps that link open. An end that has seen only one link
        // cannot know that there will be a second one.
        stream.close()
        try await eventually { one.linkCount == 1 && two.linkCount == 1 }
        try await one.expectEcho("echo", count: 100_000)
        echo.close()
        for node in [one, two] { await node.shutdown() }
    }

    // MARK: - Joining

    @Test func `two addresses of one host make one link, and the second is joined when it is lost`() async throws {
        let (server, client) = (Node.withoutTimeouts(.server), Node.withoutTimeouts(.client))
        let proxies = [
            try await RecordingProxy(to: try await server.listening()),
            try await RecordingProxy(to: try await server.listening()),
        ]
        let echo = try server.echo("echo")
        let ports = proxies.map { $0.address.port! }
        let joining = ports.map { port in Task { await client.keepJoined(host: "127.0.0.1", port: port) } }
        try await client.expectEcho("echo")
        try await eventually { client.linkCount == 1 && server.linkCount == 1 }
        let used = try #require(client.listing.links.first?.address)
        let index = try #require(ports.firstIndex { used.hasSuffix(":\($0)") })
        try await proxies[index].close()
        let link = try #require(client.core.directory.links.first)
        link.close(AstraNetError(.linkLost, "cut"))
        try await eventually { client.listing.links.contains { $0.address.hasSuffix(":\(ports[1 - index])") } }
        try await client.expectEcho("echo")
        for task in joining {
            task.cancel()
            await task.value
        }
        try await eventually { client.linkCount == 0 }
        echo.close()
        for node in [client, server] { await node.shutdown() }
        try await proxies[1 - index].close()
    }

    @Test func `a shutdown ends every keepJoined`() async throws {
        for _ in 0..<20 {
            let node = Node.withoutTimeouts(.client)
            let joining = (0..<4).map { _ in Task { await node.keepJoined(host: "127.0.0.3", port: 1) } }
            await node.shutdown()
            for task in joining { await task.value }
            await node.keepJoined(host: "127.0.0.3", port: 1)
        }
    }

    // MARK: - Attaching

    @Test(arguments: [true, false])
    func `an attached connection becomes a link`(pipes: Bool) async throws {
        let (one, two) = (Node.withoutTimeouts(.server), Node.withoutTimeouts(.client))
        let echo = try one.echo("echo")
        if pipes {
            let (there, back) = (try Descriptors.pipe(), try Descriptors.pipe())
            async let first = one.attach(input: there.0, output: back.1)
            async let second = two.attach(input: back.0, output: there.1)
            #expect(try await first == two.id)
            #expect(try await second == one.id)
        } else {
            let ends = try Descriptors.socketPair()
            async let first = one.attach(socket: ends.0)
            async let second = two.attach(socket: ends.1)
            #expect(try await first == two.id)
            #expect(try await second == one.id)
        }
        try await two.expectEcho("echo", count: 3_000_000)
        let stream = try await two.dial("echo", deadline: .testDeadline)
        try await stream.expectEcho(count: 1)
        // The peer closes its end too. Otherwise the shutdown would take the whole grace period.
        await one.shutdown(grace: .seconds(3_600))
        #expect(await stream.failure()?.code == .linkLost)
        echo.close()
        await two.shutdown()
    }
}
