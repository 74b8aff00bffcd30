import AstraNet
import Glibc
import NIOCore
import Testing

/// A node whose place another one takes at the same listening socket.
@Suite(.timeLimit(.minutes(2))) struct GoAwayTests {
    @Test func `a joined client moves to the new node while its stream on the old one goes on`() async throws {
        let (old, new, client) = (Node.withoutTimeouts(), Node.withoutTimeouts(), Node.withoutTimeouts())
        let address = try await old.listen(host: "127.0.0.1", port: 0)
        let oldListener = try old.bind("service")
        let joining = Task { await client.keepJoined(host: "127.0.0.1", port: address.port!) }
        let stream = try await client.dial("service", deadline: .testDeadline)
        let accepted = try await oldListener.nextStream(deadline: .testDeadline)

        let newListener = try new.bind("service")
        let descriptors = try await old.duplicateListeners()
        #expect(fcntl(descriptors[0], F_GETFD) == FD_CLOEXEC)
        let adopted = try await new.listen(at: .tcp(host: "127.0.0.1", port: address.port!), security: nil) {
            resolved in
            resolved == address ? descriptors[0] : nil
        }
        #expect(adopted == address)
        await old.goAway()
        await new.startAccepting()

        // The old node still offers the service: the client prefers the new one as soon as it is linked.
        try await eventually { client.services.count == 2 }
        for _ in 0..<20 {
            let next = try await client.dial("service", deadline: .testDeadline)
            #expect(next.remoteAddress.host == new.id)
            try await newListener.nextStream(deadline: .testDeadline).close()
            next.close()
        }
        try await stream.send(ByteBuffer(string: "ping"))
        #expect(try await accepted.receive(deadline: .testDeadline) == ByteBuffer(string: "ping"))
        accepted.close()
        stream.close()

        // The client closes the link that it does not use any more.
        try await eventually { old.linkCount == 0 }
        #expect(client.linkCount == 1)
        joining.cancel()
        await client.shutdown()
        await old.shutdown()
        await new.shutdown()
    }

    @Test func `a node that goes away closes the idle links of peers that do not know GOAWAY`() async throws {
        let node = Node.withoutTimeouts()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        #expect(await peer.handshake() == node.id)
        try await eventually { node.linkCount == 1 }
        await node.goAway()
        #expect(await peer.first(.goAway)?.source.host == node.id)
        node.closeIdleLinks()
        await peer.closed()
        await node.shutdown()
    }

    @Test func `a connection that was accepted just before is sent away after its handshake`() async throws {
        let node = Node.withoutTimeouts()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        // The node's HANDSHAKE shows that it has accepted the connection.
        #expect(await peer.first(.handshake) != nil)
        await node.goAway()
        peer.sendHandshake()
        #expect(await peer.first(.goAway) != nil)
        await peer.close()
        await node.shutdown()
    }

    @Test func `only GOAWAY of the peer itself makes dials prefer another link`() async throws {
        let node = Node.withoutTimeouts()
        var listeners: [RawListener] = []
        var peers: [RawPeer] = []
        for count in 1...2 {
            let listener = try await RawPeer.listen()
            async let joined = node.join(host: "127.0.0.1", port: listener.port, deadline: .testDeadline)
            let peer = try #require(await listener.peers.next())
            peer.sendHandshake()
            #expect(try await joined == peer.host)
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "service"))
            try await eventually { node.services.count == count }
            listeners.append(listener)
            peers.append(peer)
        }
        func dialled() throws -> Set<HostID> {
            Set(
                try (0..<64).map { _ in
                    let stream = try #require(try node.dialNow("service", DialRequest(), delegate: nil))
                    stream.close()
                    return stream.remoteAddress.host
                })
        }
        peers[0].send(WireOp(.goAway, to: .otherEnd, from: Address(.random(), 0)))
        _ = await peers[0].opsUntilPong()
        #expect(try dialled() == [peers[0].host, peers[1].host])
        peers[0].send(WireOp(.goAway, to: .otherEnd, from: Address(peers[0].host, 0)))
        _ = await peers[0].opsUntilPong()
        #expect(try dialled() == [peers[1].host])
        await node.shutdown()
        for listener in listeners { try await listener.close() }
    }
}
