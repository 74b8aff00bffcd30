import AstraNet
import NIOCore
import Testing

/// Non-urgent ops leave together with other ops, or alone after a short delay.
@Suite(.timeLimit(.minutes(5))) struct DeferredOpsTests {
    /// A raw peer that announces the abilities of a node of this library, after the announcements of the node.
    private func eagerPeer(of node: Node) async throws -> RawPeer {
        let peer = try await RawPeer.connect(to: try await node.listening())
        #expect(
            await peer.handshake(#"{"RAddr":"127.0.0.1:5555","Abilities":["eager","refuse"],"MaxOp":262144}"#)
                == node.id)
        _ = await peer.opsUntilPong()
        return peer
    }

    @Test func `a SYN leaves without an answer if there is none`() async throws {
        let node = Node.withoutTimeouts()
        let listener = try node.bind("soon", answersSoon: true)
        let peer = try await eagerPeer(of: node)
        peer.send(peer.op(.dial, to: listener.address, from: 16_777_300))
        let syn = await peer.first(.syn)
        #expect(syn == WireOp(.syn, to: Address(peer.host, 16_777_300), from: listener.address))
        await peer.close()
        await node.shutdown()
    }

    @Test func `a SYN leaves before the answer`() async throws {
        let node = Node.withoutTimeouts()
        let listener = try node.bind("soon", answersSoon: true)
        let peer = try await eagerPeer(of: node)
        peer.send(peer.op(.dial, to: listener.address, from: 16_777_300))
        let stream = try await listener.nextStream(deadline: .testDeadline)
        try await stream.send(ByteBuffer(string: "answer"))
        stream.close()
        let first = await peer.first { [.syn, .data, .fin1, .fin2].contains($0.command) }
        #expect(first?.command == .syn)
        #expect(await peer.first(.data)?.payload == Array("answer".utf8))
        await peer.close()
        await node.shutdown()
    }

    /// The peer reads the name on the stream and then dials it, so the SERVICE must come first.
    @Test func `a private name is announced before the bytes that contain it`() async throws {
        let node = Node.withoutTimeouts()
        let listener = try node.bind("service")
        let peer = try await eagerPeer(of: node)
        for number in 0..<100 {
            peer.send(peer.op(.dial, to: listener.address, from: 16_777_300 + UInt32(number)))
            let stream = try await listener.nextStream(deadline: .testDeadline)
            let source = try node.bind("source-\(number)", visibleTo: stream)
            try await stream.send(ByteBuffer(string: source.name))
            let first = await peer.first { $0.command == .service || $0.command == .data }
            #expect(first?.command == .service && first?.payload == Array("source-\(number)".utf8))
            #expect(await peer.first(.data)?.payload == Array("source-\(number)".utf8))
            source.close()
            stream.close()
        }
        await peer.close()
        await node.shutdown()
    }

    @Test func `a private name is announced and withdrawn without other traffic`() async throws {
        let node = Node.withoutTimeouts()
        let listener = try node.bind("service")
        let peer = try await eagerPeer(of: node)
        peer.send(peer.op(.dial, to: listener.address, from: 16_777_300))
        let stream = try await listener.nextStream(deadline: .testDeadline)
        let source = try node.bind("source", visibleTo: stream)
        #expect(await peer.first(.service)?.payload == Array("source".utf8))
        source.close()
        #expect(await peer.first(.noService)?.payload == Array("source".utf8))
        await peer.close()
        await node.shutdown()
    }

    @Test func `both ends forget a stream that the server closed, before it is read`() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        try await server.send(ByteBuffer(string: "the end"))
        server.close()
        for node in [pair.client, pair.server] {
            let link = try #require(node.core.directory.links.first)
            // The time limit of the suite ends a wait that never succeeds.
            while try await link.eventLoop.submit({ link.handler.value?.streams.count ?? 0 }).get() > 0 {
                await Task.yield()
            }
        }
        #expect(try await client.receive(deadline: .testDeadline) == ByteBuffer(string: "the end"))
        #expect(try await client.receive(deadline: .testDeadline) == nil)
        await #expect(throws: AstraNetError.self) { try await client.send(ByteBuffer(string: "too late")) }
        client.close()
        await pair.shutdown()
    }
}
