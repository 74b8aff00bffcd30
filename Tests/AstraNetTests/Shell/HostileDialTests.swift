import AstraNet
import NIOCore
import Testing

/// Invalid dials and offers, and answers that come late or not at all.
@Suite(.timeLimit(.minutes(5))) struct HostileDialTests {
    private static let ours = #"{"RAddr":"","Abilities":["refuse"]}"#
    private static let goNode = #"{"RAddr":""}"#

    @Test func `a DIAL to an unused port is answered with ERR only if the peer announced refuse`() async throws {
        let harness = try await HostilePeerHarness()
        let unusedPort = Address(harness.node.id, 4_711)
        let ours = try await harness.handshaken(Self.ours)
        ours.send(ours.op(.dial, to: unusedPort, from: 5))
        let answers = await ours.opsUntilPong()
        #expect(answers.map(\.command) == [.err])
        #expect(answers.first?.source == unusedPort)
        #expect(answers.first?.destination == Address(ours.host, 5))
        let goNode = try await harness.handshaken(Self.goNode)
        goNode.send(goNode.op(.dial, to: unusedPort, from: 5))
        #expect(await goNode.opsUntilPong() == [])
        await ours.close()
        await goNode.close()
        try await harness.end()
    }

    @Test func `a DIAL with destination host 0 reaches the node`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        peer.send(peer.op(.dial, to: Address(HostID(rawValue: 0), harness.target.address.port), from: 5))
        #expect(await peer.first(.syn) == WireOp(.syn, to: Address(peer.host, 5), from: harness.target.address))
        await peer.close()
        try await harness.end()
    }

    @Test func `a repeated DIAL opens one stream`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        let dial = peer.op(.dial, to: harness.target.address, from: 5)
        peer.send([dial, dial])
        #expect(await peer.opsUntilPong().map(\.command) == [.syn])
        let ack = peer.op(.ack, to: harness.target.address, from: 5)
        peer.send([ack, ack, dial])
        #expect(await peer.opsUntilPong().map(\.command) == [.synAck])
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        let error = await #expect(throws: AstraNetError.self) { try await harness.target.nextStream(deadline: .now) }
        #expect(error?.code == .deadlineExceeded)
        stream.close()
        await peer.close()
        try await harness.end()
    }

    @Test func `a source port can be used again after its stream has ended`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        for round in 1...3 as ClosedRange<UInt8> {
            await peer.open(harness.target.address, from: 5)
            let stream = try await harness.target.nextStream(deadline: .testDeadline)
            peer.send(peer.op(.data, to: harness.target.address, from: 5, payload: [round]))
            #expect(try await stream.receive(deadline: .testDeadline) == ByteBuffer(bytes: [round]))
            stream.close()
            #expect(await peer.first(.fin2) != nil)
            peer.send(peer.op(.fin2, to: harness.target.address, from: 5))
        }
        await peer.close()
        try await harness.end()
    }

    @Test func `bytes right behind a DIAL wait until the stream is accepted`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        peer.send([
            peer.op(.dial, to: harness.target.address, from: 5),
            peer.op(.data, to: harness.target.address, from: 5, payload: [1]),
            peer.op(.ack, to: harness.target.address, from: 5),
            peer.op(.data, to: harness.target.address, from: 5, payload: [2]),
            peer.op(.fin2, to: harness.target.address, from: 5),
        ])
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        #expect(try await stream.readAll() == ByteBuffer(bytes: [1, 2]))
        stream.close()
        await peer.close()
        try await harness.end()
    }

    @Test(arguments: [true, false])
    func `half-open streams are limited, and dials succeed again after the open timeout`(refuse: Bool) async throws {
        let harness = try await HostilePeerHarness {
            $0.maximumHalfOpenPerLink = 3
            $0.openTimeout = .seconds(1)
        }
        let peer = try await harness.handshaken(refuse ? Self.ours : Self.goNode)
        peer.send((1...5).map { peer.op(.dial, to: harness.target.address, from: $0) })
        let answers = await peer.opsUntilPong()
        #expect(answers.count { $0.command == .syn } == 3)
        #expect(answers.count { $0.command == .err } == (refuse ? 2 : 0))
        // The unconfirmed streams expire, and the node sends ERR.
        for _ in 0..<3 {
            #expect(await peer.first(.err) != nil)
            #expect(await peer.first(.fin2) != nil)
        }
        peer.send(peer.op(.dial, to: harness.target.address, from: 9))
        #expect(await peer.first(.syn)?.destination.port == 9)
        await peer.close()
        // The short timeout may also affect the well-behaved peer.
        try await harness.end(checksOtherLink: false)
    }

    @Test func `confirmed and abandoned dials do not count as half-open`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumHalfOpenPerLink = 1 }
        let peer = try await harness.handshaken(Self.ours)
        for port: UInt32 in 1...5 {
            await peer.open(harness.target.address, from: port)
        }
        // A stream that its dialer ends before the ACK does not count either.
        for port: UInt32 in 6...9 {
            peer.send(peer.op(.dial, to: harness.target.address, from: port))
            peer.send(peer.op(.fin2, to: harness.target.address, from: port))
            #expect(await peer.opsUntilPong().map(\.command).contains(.syn))
        }
        await peer.close()
        try await harness.end()
    }

    @Test func `the number of streams per link is limited`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumStreamsPerLink = 2 }
        let peer = try await harness.handshaken(Self.ours)
        await peer.open(harness.target.address, from: 1)
        await peer.open(harness.target.address, from: 2)
        peer.send(peer.op(.dial, to: harness.target.address, from: 3))
        #expect(await peer.opsUntilPong().map(\.command) == [.err])
        try await harness.target.nextStream(deadline: .testDeadline).close()
        _ = await peer.first(.fin2)
        await peer.open(harness.target.address, from: 3)
        await peer.close()
        try await harness.end()
    }

    @Test func `a listener without an acceptor holds at most its backlog`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumBacklog = 2 }
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 1)
        await peer.open(harness.target.address, from: 2)
        await peer.open(harness.target.address, from: 3)
        #expect(await peer.first(.err)?.destination.port == 3)
        await peer.close()
        try await harness.end()
    }

    // MARK: - The peer's services

    @Test func `the number of services per link is limited`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumServicesPerLink = 2 }
        let peer = try await harness.handshaken()
        for name in ["a", "b", "c"] {
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: name))
        }
        _ = await peer.opsUntilPong()
        #expect(harness.node.services.map(\.name) == ["a", "b"])
        peer.send(WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "a"))
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "c"))
        _ = await peer.opsUntilPong()
        #expect(harness.node.services.map(\.name) == ["b", "c"])
        await peer.close()
        try await harness.end()
    }

    @Test func `a service name that is empty or longer than 1,024 bytes is ignored`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        for length in [0, 1_025, 65_536] {
            let name = String(repeating: "n", count: length)
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: name))
        }
        peer.send(WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "never there"))
        #expect(await peer.opsUntilPong() == [])
        #expect(harness.node.services == [])
        await peer.close()
        try await harness.end()
    }

    // MARK: - The node dials

    /// A node that has joined a raw peer, which offers `name` on port 9.
    private func joined(offering name: String) async throws -> (Node, RawListener, RawPeer) {
        let listener = try await RawPeer.listen()
        let node = Node.withoutTimeouts()
        async let joining = node.join(host: "127.0.0.1", port: listener.port, deadline: .testDeadline)
        let peer = try #require(await listener.peers.next())
        #expect(await peer.handshake() == node.id)
        #expect(try await joining == peer.host)
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: name))
        _ = await peer.opsUntilPong()
        return (node, listener, peer)
    }

    @Test func `a SYN after the deadline of its dial changes nothing`() async throws {
        let (node, listener, peer) = try await joined(offering: "slow")
        let error = await #expect(throws: AstraNetError.self) {
            try await node.dial("slow", deadline: .now + .milliseconds(50))
        }
        #expect(error?.code == .deadlineExceeded)
        let dial = try #require(await peer.first(.dial))
        #expect(await peer.first(.fin2)?.source == dial.source)
        peer.send([
            WireOp(.syn, to: dial.source, from: dial.destination),
            WireOp(.data, to: dial.source, from: dial.destination, payload: [1]),
        ])
        #expect(await peer.opsUntilPong() == [])
        // The link still works.
        async let second = node.dial("slow", deadline: .testDeadline)
        let next = try #require(await peer.first(.dial))
        peer.send(WireOp(.syn, to: next.source, from: next.destination))
        let stream = try await second
        #expect(stream.localAddress == next.source)
        #expect(next.source != dial.source)
        let link = stream.link
        #expect(try await link.eventLoop.submit { link.handler.value?.streams.count }.get() == 1)
        stream.close()
        await node.shutdown()
        try await listener.close()
    }

    @Test(arguments: [
        (Command.err, AstraNetError.Code.refused), (.fin2, .closedByPeer), (.forceClosed, .failedByPeer),
    ])
    func `a refused dial fails at once and is forgotten`(answer: Command, code: AstraNetError.Code) async throws {
        let (node, listener, peer) = try await joined(offering: "closed")
        for _ in 0..<3 {
            async let dialled = node.dial("closed", deadline: .testDeadline)
            let dial = try #require(await peer.first(.dial))
            peer.send(WireOp(answer, to: dial.source, from: dial.destination))
            do {
                _ = try await dialled
                Issue.record("the dial succeeded")
            } catch let error as AstraNetError {
                #expect(error.code == code)
            }
        }
        async let dialled = node.dial("closed", deadline: .testDeadline)
        let dial = try #require(await peer.first(.dial))
        peer.send(WireOp(.syn, to: dial.source, from: dial.destination))
        let link = try await dialled.link
        #expect(try await link.eventLoop.submit { link.handler.value?.streams.count }.get() == 1)
        await node.shutdown()
        try await listener.close()
    }

    @Test func `a withdrawn service is not dialled`() async throws {
        let (node, listener, peer) = try await joined(offering: "gone")
        _ = await peer.opsUntilPong()
        #expect(node.services.map(\.name) == ["gone"])
        peer.send(WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "gone"))
        _ = await peer.opsUntilPong()
        let error = await #expect(throws: AstraNetError.self) { try await node.dial("gone", deadline: .now) }
        #expect(error?.code == .noOffer)
        await node.shutdown()
        try await listener.close()
    }

    @Test func `a join without a handshake fails at its deadline`() async throws {
        let listener = try await RawPeer.listen()
        let node = Node.withoutTimeouts()
        let error = await #expect(throws: AstraNetError.self) {
            try await node.join(host: "127.0.0.1", port: listener.port, deadline: .now + .milliseconds(20))
        }
        // On a slow machine the connection itself may not be up by then.
        #expect(error?.code == .deadlineExceeded || error?.code == .unreachable)
        #expect(node.linkCount == 0)
        await node.shutdown()
        try await listener.close()
    }

    @Test func `a connection beyond the limit is closed at once`() async throws {
        let node = Node.withoutTimeouts { $0.maximumLinks = 2 }
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let up = try await RawPeer.connect(to: address)
        #expect(await up.handshake() == node.id)
        let silent = try await RawPeer.connect(to: address)
        #expect(await silent.first(.handshake) != nil)
        let tooMany = try await RawPeer.connect(to: address)
        await tooMany.closed()
        #expect(await up.opsUntilPong() == [])
        await silent.close()
        await node.shutdown()
    }

    @Test func `a shutdown closes connections without a handshake`() async throws {
        let node = Node.withoutTimeouts()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        #expect(await peer.first(.handshake) != nil)
        await node.shutdown()
        await peer.closed()
    }
}
