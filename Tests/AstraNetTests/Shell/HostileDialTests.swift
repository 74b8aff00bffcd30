import NIOCore
import Testing

@testable import AstraNet

/// Dials and offers that nobody should make, and answers that come late or not at all.
@Suite(.timeLimit(.minutes(5))) struct HostileDialTests {
    private static let ours = #"{"RAddr":"","Abilities":["refuse"]}"#
    private static let goNode = #"{"RAddr":""}"#

    @Test func aDialToAPortNobodyListensOnIsRefusedOnlyToPeersThatKnowWhatThatMeans() async throws {
        let siege = try await Besieged()
        let nowhere = Address(siege.node.id, 4_711)
        let ours = try await siege.handshaken(Self.ours)
        ours.send(ours.op(.dial, to: nowhere, from: 5))
        let answers = await ours.opsUntilPong()
        #expect(answers.map(\.command) == [.err])
        #expect(answers.first?.source == nowhere)
        #expect(answers.first?.destination == Address(ours.host, 5))
        let goNode = try await siege.handshaken(Self.goNode)
        goNode.send(goNode.op(.dial, to: nowhere, from: 5))
        #expect(await goNode.opsUntilPong() == [])
        await ours.close()
        await goNode.close()
        try await siege.end()
    }

    @Test func aDialMayNameTheOtherEndInsteadOfTheHost() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        peer.send(peer.op(.dial, to: Address(HostID(rawValue: 0), siege.target.address.port), from: 5))
        #expect(await peer.first(.syn) == WireOp(.syn, to: Address(peer.host, 5), from: siege.target.address))
        await peer.close()
        try await siege.end()
    }

    @Test func aDialThatIsRepeatedOpensOneStream() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        let dial = peer.op(.dial, to: siege.target.address, from: 5)
        peer.send([dial, dial])
        #expect(await peer.opsUntilPong().map(\.command) == [.syn])
        let ack = peer.op(.ack, to: siege.target.address, from: 5)
        peer.send([ack, ack, dial])
        #expect(await peer.opsUntilPong().map(\.command) == [.synAck])
        let stream = try await siege.target.nextStream(deadline: .soon)
        let error = await #expect(throws: AstraNetError.self) { try await siege.target.nextStream(deadline: .now) }
        #expect(error?.code == .deadlineExceeded)
        stream.close()
        await peer.close()
        try await siege.end()
    }

    @Test func aPortCanBeDialledFromAgainAfterItsStreamEnded() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        for round in 1...3 as ClosedRange<UInt8> {
            await peer.open(siege.target.address, from: 5)
            let stream = try await siege.target.nextStream(deadline: .soon)
            peer.send(peer.op(.data, to: siege.target.address, from: 5, payload: [round]))
            #expect(try await stream.receive(deadline: .soon) == ByteBuffer(bytes: [round]))
            stream.close()
            #expect(await peer.first(.fin2) != nil)
            peer.send(peer.op(.fin2, to: siege.target.address, from: 5))
        }
        await peer.close()
        try await siege.end()
    }

    @Test func bytesRightBehindADialWaitForTheAccept() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        peer.send([
            peer.op(.dial, to: siege.target.address, from: 5),
            peer.op(.data, to: siege.target.address, from: 5, payload: [1]),
            peer.op(.ack, to: siege.target.address, from: 5),
            peer.op(.data, to: siege.target.address, from: 5, payload: [2]),
            peer.op(.fin2, to: siege.target.address, from: 5),
        ])
        let stream = try await siege.target.nextStream(deadline: .soon)
        #expect(try await stream.readAll() == ByteBuffer(bytes: [1, 2]))
        stream.close()
        await peer.close()
        try await siege.end()
    }

    @Test(arguments: [true, false])
    func aFloodOfDialsStopsAtTheLimitAndLaterGoesOn(refuse: Bool) async throws {
        let siege = try await Besieged {
            $0.maximumHalfOpenPerLink = 3
            $0.openTimeout = .seconds(1)
        }
        let peer = try await siege.handshaken(refuse ? Self.ours : Self.goNode)
        peer.send((1...5).map { peer.op(.dial, to: siege.target.address, from: $0) })
        let answers = await peer.opsUntilPong()
        #expect(answers.count { $0.command == .syn } == 3)
        #expect(answers.count { $0.command == .err } == (refuse ? 2 : 0))
        // Those that were never confirmed are given up, and told so.
        for _ in 0..<3 {
            #expect(await peer.first(.err) != nil)
            #expect(await peer.first(.fin2) != nil)
        }
        peer.send(peer.op(.dial, to: siege.target.address, from: 9))
        #expect(await peer.first(.syn)?.destination.port == 9)
        await peer.close()
        // So short a timeout may hit the friend as well.
        try await siege.end(isUnharmed: false)
    }

    @Test func confirmedDialsDoNotCountAsHalfOpen() async throws {
        let siege = try await Besieged { $0.maximumHalfOpenPerLink = 1 }
        let peer = try await siege.handshaken(Self.ours)
        for port: UInt32 in 1...5 {
            await peer.open(siege.target.address, from: port)
        }
        // Given up by its dialer, it does not count any more either.
        for port: UInt32 in 6...9 {
            peer.send(peer.op(.dial, to: siege.target.address, from: port))
            peer.send(peer.op(.fin2, to: siege.target.address, from: port))
            #expect(await peer.opsUntilPong().map(\.command).contains(.syn))
        }
        await peer.close()
        try await siege.end()
    }

    @Test func aLinkHasAtMostItsLimitOfStreams() async throws {
        let siege = try await Besieged { $0.maximumStreamsPerLink = 2 }
        let peer = try await siege.handshaken(Self.ours)
        await peer.open(siege.target.address, from: 1)
        await peer.open(siege.target.address, from: 2)
        peer.send(peer.op(.dial, to: siege.target.address, from: 3))
        #expect(await peer.opsUntilPong().map(\.command) == [.err])
        try await siege.target.nextStream(deadline: .soon).close()
        _ = await peer.first(.fin2)
        await peer.open(siege.target.address, from: 3)
        await peer.close()
        try await siege.end()
    }

    @Test func aListenerThatNobodyServesTakesAtMostItsBacklog() async throws {
        let siege = try await Besieged { $0.maximumBacklog = 2 }
        let peer = try await siege.handshaken()
        await peer.open(siege.target.address, from: 1)
        await peer.open(siege.target.address, from: 2)
        await peer.open(siege.target.address, from: 3)
        #expect(await peer.first(.err)?.destination.port == 3)
        await peer.close()
        try await siege.end()
    }

    // MARK: - The peer's services

    @Test func aPeerBringsAtMostItsLimitOfServices() async throws {
        let siege = try await Besieged { $0.maximumServicesPerLink = 2 }
        let peer = try await siege.handshaken()
        for name in ["a", "b", "c"] {
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: name))
        }
        _ = await peer.opsUntilPong()
        #expect(siege.node.services.map(\.name) == ["a", "b"])
        peer.send(WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "a"))
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "c"))
        _ = await peer.opsUntilPong()
        #expect(siege.node.services.map(\.name) == ["b", "c"])
        await peer.close()
        try await siege.end()
    }

    @Test func aNameWithoutBytesOrWithTooManyIsNotBelieved() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        for length in [0, 1_025, 65_536] {
            let name = String(repeating: "n", count: length)
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: name))
        }
        peer.send(WireOp(.noService, to: .otherEnd, from: Address(peer.host, 9), text: "never there"))
        #expect(await peer.opsUntilPong() == [])
        #expect(siege.node.services == [])
        await peer.close()
        try await siege.end()
    }

    // MARK: - The node dials

    /// A node that has joined a socket of ours, which offers `name` at port 9.
    private func joined(offering name: String) async throws -> (Node, RawListener, RawPeer) {
        let listener = try await RawPeer.listen()
        let node = Node.patient()
        async let joining = node.join(host: "127.0.0.1", port: listener.port, deadline: .soon)
        let peer = try #require(await listener.peers.next())
        #expect(await peer.handshake() == node.id)
        #expect(try await joining == peer.host)
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: name))
        _ = await peer.opsUntilPong()
        return (node, listener, peer)
    }

    @Test func aSynForADialThatWasGivenUpChangesNothing() async throws {
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
        // The link is as good as before.
        async let second = node.dial("slow", deadline: .soon)
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
    func aDialThatIsTurnedDownFailsAtOnceAndIsForgotten(answer: Command, code: AstraNetError.Code) async throws {
        let (node, listener, peer) = try await joined(offering: "closed")
        for _ in 0..<3 {
            async let dialled = node.dial("closed", deadline: .soon)
            let dial = try #require(await peer.first(.dial))
            peer.send(WireOp(answer, to: dial.source, from: dial.destination))
            do {
                _ = try await dialled
                Issue.record("the dial succeeded")
            } catch let error as AstraNetError {
                #expect(error.code == code)
            }
        }
        async let dialled = node.dial("closed", deadline: .soon)
        let dial = try #require(await peer.first(.dial))
        peer.send(WireOp(.syn, to: dial.source, from: dial.destination))
        let link = try await dialled.link
        #expect(try await link.eventLoop.submit { link.handler.value?.streams.count }.get() == 1)
        await node.shutdown()
        try await listener.close()
    }

    @Test func aServiceThatIsWithdrawnIsNotDialled() async throws {
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

    @Test func aJoinWhoseHandshakeNeverComesEndsAtItsDeadline() async throws {
        let listener = try await RawPeer.listen()
        let node = Node.patient()
        let error = await #expect(throws: AstraNetError.self) {
            try await node.join(host: "127.0.0.1", port: listener.port, deadline: .now + .milliseconds(20))
        }
        // A slow machine may not even have connected by then.
        #expect(error?.code == .deadlineExceeded || error?.code == .unreachable)
        #expect(node.linkCount == 0)
        await node.shutdown()
        try await listener.close()
    }

    @Test func aConnectionBeyondTheLimitIsClosedAtOnce() async throws {
        let node = Node.patient { $0.maximumLinks = 2 }
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

    @Test func aShutdownEndsLinksWhoseHandshakeHasNotCome() async throws {
        let node = Node.patient()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        #expect(await peer.first(.handshake) != nil)
        await node.shutdown()
        await peer.closed()
    }
}
