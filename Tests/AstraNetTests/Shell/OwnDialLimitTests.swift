import AstraNet
import NIOCore
import Testing

/// The limit of streams per link also applies to streams that the node dials.
@Suite(.timeLimit(.minutes(5))) struct OwnDialLimitTests {
    /// A client whose links may have two streams each.
    private static func client() -> Node {
        .withoutTimeouts {
            $0.role = .client
            $0.maximumStreamsPerLink = 2
        }
    }

    @Test func `a dial beyond the limit fails at once and sends nothing`() async throws {
        let (server, client) = (Node.withoutTimeouts(.server), Self.client())
        let listener = try server.bind("thing")
        try await client.join(try await server.listening())
        let streams = [
            try await client.dial("thing", deadline: .testDeadline),
            try await client.dial("thing", deadline: .testDeadline),
        ]
        for refused in 1...3 {
            let error = await #expect(throws: AstraNetError.self) {
                try await client.dial("thing", sending: ByteBuffer(bytes: [1]), deadline: .testDeadline)
            }
            #expect(error?.code == .limitReached)
            #expect(error?.message.hasSuffix("has its maximum of 2 streams") == true)
            #expect(client.listing.refused.streams == refused)
        }
        for _ in streams { _ = try await listener.nextStream(deadline: .testDeadline) }
        // A stream that ends frees its place.
        streams[0].close()
        let link = streams[1].link
        try await eventually { link.takesStream }
        let third = try await client.dial("thing", deadline: .testDeadline)
        #expect(try await listener.nextStream(deadline: .testDeadline).remoteAddress == third.localAddress)
        let error = await #expect(throws: AstraNetError.self) {
            try await client.dial("thing", deadline: .testDeadline)
        }
        #expect(error?.code == .limitReached)
        listener.close()
        for node in [client, server] { await node.shutdown() }
    }

    @Test func `a dial beyond the limit of one link uses another link`() async throws {
        let (one, two, client) = (Node.withoutTimeouts(.server), Node.withoutTimeouts(.server), Self.client())
        let first = try one.bind("thing")
        try await client.join(try await one.listening())
        for _ in 0..<2 { _ = try await client.dial("thing", deadline: .testDeadline) }
        let second = try two.bind("thing")
        try await client.join(try await two.listening())
        try await eventually { client.services.count == 2 }
        // The bucket determines the offer that a dial tries first, and for some buckets it is that of the full link.
        for index in 0..<2 {
            let stream = try await client.dial("thing", bucket: "\(index)", deadline: .testDeadline)
            #expect(stream.remoteAddress.host == two.id)
        }
        let before = client.listing.refused.streams
        let error = await #expect(throws: AstraNetError.self) {
            try await client.dial("thing", deadline: .testDeadline)
        }
        #expect(error?.code == .limitReached)
        #expect(client.listing.refused.streams == before + 2, "once for each link")
        for listener in [first, second] { listener.close() }
        for node in [client, two, one] { await node.shutdown() }
    }

    @Test func `incoming and outgoing streams share the limit`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumStreamsPerLink = 2 }
        let peer = try await harness.handshaken(#"{"RAddr":"","Abilities":["refuse"]}"#)
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "thing"))
        async let dialled = harness.node.dial("thing", deadline: .testDeadline)
        let dial = try #require(await peer.first(.dial))
        peer.send(WireOp(.syn, to: dial.source, from: dial.destination))
        let stream = try await dialled
        await peer.open(harness.target.address, from: 5)
        peer.send(peer.op(.dial, to: harness.target.address, from: 6))
        #expect(await peer.opsUntilPong().map(\.command) == [.err])
        let error = await #expect(throws: AstraNetError.self) {
            try await harness.node.dial("thing", deadline: .testDeadline)
        }
        #expect(error?.code == .limitReached)
        #expect(await peer.opsUntilPong() == [])
        stream.close()
        await peer.close()
        try await harness.end()
    }
}

extension Link {
    /// Whether the link has a place for another stream. Takes a place and returns it.
    fileprivate var takesStream: Bool {
        guard reserveStreamSlot() else { return false }
        releaseStreamSlot()
        return true
    }
}
