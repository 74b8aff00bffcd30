import NIOCore
import Testing

@testable import AstraNet

/// Ops that nobody waits for leave with others, and by themselves when there are none.
@Suite(.timeLimit(.minutes(5))) struct PatientOpsTests {
    /// A socket that says it is a node of this library, and has heard of the node's services.
    private func eagerPeer(of node: Node) async throws -> RawPeer {
        let peer = try await RawPeer.connect(to: try await node.listening())
        #expect(
            await peer.handshake(#"{"RAddr":"127.0.0.1:5555","Abilities":["eager","refuse"],"MaxOp":262144}"#)
                == node.id)
        _ = await peer.opsUntilPong()
        return peer
    }

    @Test func anAcceptanceComesWithoutAnAnswerWhereThereIsNone() async throws {
        let node = Node.patient()
        let listener = try node.bind("soon", answersSoon: true)
        let peer = try await eagerPeer(of: node)
        peer.send(peer.op(.dial, to: listener.address, from: 16_777_300))
        let syn = await peer.first(.syn)
        #expect(syn == WireOp(.syn, to: Address(peer.host, 16_777_300), from: listener.address))
        await peer.close()
        await node.shutdown()
    }

    @Test func anAcceptanceLeavesAheadOfTheAnswer() async throws {
        let node = Node.patient()
        let listener = try node.bind("soon", answersSoon: true)
        let peer = try await eagerPeer(of: node)
        peer.send(peer.op(.dial, to: listener.address, from: 16_777_300))
        let stream = try await listener.nextStream(deadline: .soon)
        try await stream.send(ByteBuffer(string: "answer"))
        stream.close()
        let first = await peer.first { [.syn, .data, .fin1, .fin2].contains($0.command) }
        #expect(first?.command == .syn)
        #expect(await peer.first(.data)?.payload == Array("answer".utf8))
        await peer.close()
        await node.shutdown()
    }

    /// The name is told on the stream, so it must be known by then.
    @Test func aNameIsAnnouncedAheadOfTheBytesThatTellIt() async throws {
        let node = Node.patient()
        let listener = try node.bind("service")
        let peer = try await eagerPeer(of: node)
        for number in 0..<100 {
            peer.send(peer.op(.dial, to: listener.address, from: 16_777_300 + UInt32(number)))
            let stream = try await listener.nextStream(deadline: .soon)
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

    @Test func aNameThatIsToldToOnePeerIsAnnouncedAndWithdrawnThoughNothingElseIsSaid() async throws {
        let node = Node.patient()
        let listener = try node.bind("service")
        let peer = try await eagerPeer(of: node)
        peer.send(peer.op(.dial, to: listener.address, from: 16_777_300))
        let stream = try await listener.nextStream(deadline: .soon)
        let source = try node.bind("source", visibleTo: stream)
        #expect(await peer.first(.service)?.payload == Array("source".utf8))
        source.close()
        #expect(await peer.first(.noService)?.payload == Array("source".utf8))
        await peer.close()
        await node.shutdown()
    }

    @Test func aStreamThatOneOfOursHasEndedIsForgottenUnread() async throws {
        let pair = try await Pair()
        let (client, server) = try await pair.stream()
        try await server.send(ByteBuffer(string: "the end"))
        server.close()
        for node in [pair.client, pair.server] {
            let link = try #require(node.core.shared.withLockedValue { $0.links.up.values.first })
            // The suite's time limit ends a wait in vain.
            while try await link.eventLoop.submit({ link.handler.value?.streams.count ?? 0 }).get() > 0 {
                await Task.yield()
            }
        }
        #expect(try await client.receive(deadline: .soon) == ByteBuffer(string: "the end"))
        #expect(try await client.receive(deadline: .soon) == nil)
        await #expect(throws: AstraNetError.self) { try await client.send(ByteBuffer(string: "too late")) }
        client.close()
        await pair.shutdown()
    }
}
