import NIOCore
import Testing

@testable import AstraNet

/// Peers that break rules or make demands: each harms its own stream or link, and nobody else's.
@Suite(.timeLimit(.minutes(5))) struct HostilePeerTests {
    // MARK: - What ends a link

    @Test(arguments: [
        Array("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8), [UInt8](repeating: 0xFF, count: 29),
        Array(0...255),
    ])
    func garbageEndsItsLink(bytes: [UInt8]) async throws {
        let siege = try await Besieged()
        let peer = try await siege.connect()
        peer.send(bytes)
        await peer.closed()
        try await siege.end()
    }

    @Test(arguments: [262_145, Int(Int32.max), Int(UInt32.max)])
    func aHugeLengthEndsItsLinkAtTheHeader(length: Int) async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        var header = WireOp(.data, to: siege.target.address, from: Address(peer.host, 1)).encoded
        header.replaceSubrange(25..<29, with: [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) })
        peer.send(header)
        await peer.closed()
        try await siege.end()
    }

    @Test(arguments: ["", "[]", "no json", #"{"RAddr":7}"#])
    func aHandshakeThatIsNoneEndsItsLink(json: String) async throws {
        let siege = try await Besieged()
        let peer = try await siege.connect()
        peer.sendHandshake(json)
        await peer.closed()
        try await siege.end()
    }

    @Test func aHandshakeInOurNameEndsItsLink() async throws {
        let siege = try await Besieged()
        let peer = try await RawPeer.connect(to: siege.address, host: siege.node.id)
        peer.sendHandshake()
        await peer.closed()
        try await siege.end()
    }

    @Test func halfAHandshakeAndThenNothingEndsItsLinkInTime() async throws {
        let siege = try await Besieged { $0.handshakeTimeout = .milliseconds(10) }
        let silent = try await siege.connect()
        let half = try await siege.connect()
        half.send(Array(WireOp(.handshake, to: .otherEnd, from: Address(half.host, 0), text: "{}").encoded.dropLast()))
        let other = try await siege.connect()
        other.send(WireOp(.ping, to: .otherEnd, from: Address(other.host, 0)))
        await silent.closed()
        await half.closed()
        await other.closed()
        try await siege.end()
    }

    @Test func anIdleLinkIsPinged() async throws {
        let siege = try await Besieged { $0.pingInterval = .milliseconds(10) }
        let peer = try await siege.handshaken()
        #expect(await peer.first(.ping) == WireOp(.ping, to: .otherEnd, from: Address(siege.node.id, 0)))
        await peer.close()
        try await siege.end()
    }

    @Test func aSilentPeerIsGivenUp() async throws {
        var configuration = NodeConfiguration()
        configuration.silenceTimeout = .milliseconds(10)
        let node = Node(configuration: configuration, logger: .silent)
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let peer = try await RawPeer.connect(to: address)
        #expect(await peer.handshake() == node.id)
        await peer.closed()
        await node.shutdown()
    }

    @Test(arguments: [Command.ping, .dial])
    func aFloodOfQuestionsWhoseAnswersNobodyReadsEndsItsLink(command: Command) async throws {
        let siege = try await Besieged { $0.maximumHalfOpenPerLink = 10 }
        let peer = try await siege.connect(reads: false)
        peer.sendHandshake(#"{"RAddr":"","Abilities":["refuse"]}"#)
        let question = peer.op(command, to: Address(siege.node.id, 99), from: 1).encoded
        let many = [[UInt8]](repeating: question, count: 10_000).flatMap { $0 }
        // Ends only because the node closes the link.
        while await peer.sendAll(many) {}
        peer.channel.close(promise: nil)
        try await siege.end()
    }

    @Test func aConnectionThatBreaksInTheMiddleOfAnOpFailsItsStreams() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        await peer.open(siege.target.address, from: 5)
        let stream = try await siege.target.nextStream(deadline: .soon)
        let data = peer.op(.data, to: siege.target.address, from: 5, payload: [1, 2, 3]).encoded
        _ = await peer.sendAll(data + data.dropLast())
        await peer.close()
        #expect(try await stream.receive(deadline: .soon) == ByteBuffer(bytes: [1, 2, 3]))
        let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .soon) }
        #expect(error?.code == .linkLost)
        stream.close()
        try await siege.end()
    }

    // MARK: - What is ignored

    @Test func opsBeforeTheHandshakeAreDropped() async throws {
        let siege = try await Besieged()
        let peer = try await siege.connect()
        peer.send(WireOp(.ping, to: .otherEnd, from: Address(peer.host, 0)))
        peer.send(peer.op(.dial, to: siege.target.address, from: 5))
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "early"))
        let first = await peer.ops.next()
        #expect(first?.command == .handshake)
        peer.sendHandshake()
        let ops = await peer.opsUntilPong()
        #expect(ops.allSatisfy { $0.command == .service })
        #expect(siege.node.services == [])
        await peer.close()
        try await siege.end()
    }

    @Test func opsThatComeByteByByteAreTakenAsOthers() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        let payload = (0..<500).map { UInt8(truncatingIfNeeded: $0) }
        let ops = [
            peer.op(.dial, to: siege.target.address, from: 5), peer.op(.ack, to: siege.target.address, from: 5),
            peer.op(.data, to: siege.target.address, from: 5, payload: payload),
            peer.op(.fin2, to: siege.target.address, from: 5),
        ]
        for byte in ops.flatMap(\.encoded) {
            try #require(await peer.sendAll([byte]))
        }
        let stream = try await siege.target.nextStream(deadline: .soon)
        #expect(try await stream.readAll() == ByteBuffer(bytes: payload))
        stream.close()
        await peer.close()
        try await siege.end()
    }

    @Test func opsForStreamsNobodyKnowsAreNobodys() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        let commands: [Command] = [
            .syn, .ack, .synAck, .fin1, .fin2, .err, .forceClosed, .data, .windowSize, .rewind, .rst, .follow,
            .pong, Command(rawValue: 0), Command(rawValue: 255),
        ]
        for command in commands {
            for payload in [[], [0, 0, 0, 9], [UInt8](repeating: 0xFF, count: 65_536)] {
                peer.send(peer.op(command, to: siege.target.address, from: 5, payload: payload))
                peer.send(peer.op(command, to: Address(siege.node.id, 0), from: 0, payload: payload))
            }
        }
        #expect(await peer.opsUntilPong() == [])
        await peer.close()
        try await siege.end()
    }

    @Test func opsForOtherHostsAreNotForwarded() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        let elsewhere = Address(HostID(rawValue: 12_345), siege.target.address.port)
        peer.send(peer.op(.dial, to: elsewhere, from: 5))
        peer.send(peer.op(.ping, to: elsewhere, from: 0))
        #expect(await peer.opsUntilPong() == [])
        await peer.close()
        try await siege.end()
    }

    @Test func aSecondHandshakeDoesNotMakeAPeerSomebodyElse() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        peer.send(WireOp(.handshake, to: .otherEnd, from: Address(HostID(rawValue: 77), 0), text: "{}"))
        peer.send(WireOp(.service, to: .otherEnd, from: Address(HostID(rawValue: 77), 9), text: "thing"))
        // It is taken for a host behind the peer, and asked where it can be reached.
        #expect(await peer.opsUntilPong().map(\.command) == [.discover])
        #expect(siege.node.services.map(\.isRelayed) == [true])
        await peer.close()
        try await siege.end()
    }

    // MARK: - What ends a stream

    /// A peer with two open streams, of which the first is to be harmed.
    private func withTwoStreams(
        _ siege: Besieged, _ body: (RawPeer, AstraNet.Stream) async throws -> Void
    ) async throws {
        let peer = try await siege.handshaken()
        await peer.open(siege.target.address, from: 5)
        let harmed = try await siege.target.nextStream(deadline: .soon)
        await peer.open(siege.target.address, from: 6)
        let other = try await siege.target.nextStream(deadline: .soon)
        try await body(peer, harmed)
        peer.send(peer.op(.data, to: siege.target.address, from: 6, payload: [4, 2]))
        #expect(try await other.receive(deadline: .soon) == ByteBuffer(bytes: [4, 2]))
        #expect(try await streamCount(beside: other) == 1)
        harmed.close()
        other.close()
        await peer.close()
        try await siege.end()
    }

    /// How many streams the link of a stream has.
    private func streamCount(beside stream: AstraNet.Stream) async throws -> Int {
        let link = stream.link
        return try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get()
    }

    private static let farewell: [Command] = [.err, .fin1, .fin2]

    @Test func bytesBeyondTheWindowEndTheirStream() async throws {
        let siege = try await Besieged()
        try await withTwoStreams(siege) { peer, stream in
            let bytes = [UInt8](repeating: 1, count: 32_768)
            for payload in [bytes, bytes, [2]] {
                peer.send(peer.op(.data, to: siege.target.address, from: 5, payload: payload))
            }
            #expect(await peer.opsUntilPong().map(\.command) == Self.farewell)
            var read = ByteBuffer()
            let error = await #expect(throws: AstraNetError.self) {
                while let bytes = try await stream.receive(deadline: .soon) { read.writeImmutableBuffer(bytes) }
            }
            #expect(read.readableBytes == 65_536, "what the window allowed is there")
            #expect(error?.code == .protocolViolation)
        }
    }

    @Test func creditForBytesThatWereNeverSentEndsItsStream() async throws {
        let siege = try await Besieged()
        try await withTwoStreams(siege) { peer, stream in
            try await stream.send(ByteBuffer(repeating: 1, count: 10))
            _ = await peer.first(.data)
            peer.send(WireOp(.rewind, to: siege.target.address, from: Address(peer.host, 5), number: 11))
            #expect(await peer.opsUntilPong().map(\.command) == Self.farewell)
            let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .soon) }
            #expect(error?.code == .protocolViolation)
        }
    }

    @Test func creditWithoutEndIsUsedAndMoreOfItEndsItsStream() async throws {
        let siege = try await Besieged()
        try await withTwoStreams(siege) { peer, stream in
            let grant = WireOp(.windowSize, to: siege.target.address, from: Address(peer.host, 5), number: .max)
            peer.send([grant, grant])
            let sending = Task {
                for _ in 0..<20 { try await stream.send(ByteBuffer(repeating: 1, count: 100_000), deadline: .soon) }
            }
            var received = 0
            while received < 2_000_000, let op = await peer.first(.data) { received += op.payload.count }
            try await sending.value
            // A window that shrinks below what is under way lets nothing more leave, and does not end the stream.
            peer.send(WireOp(.windowSize, to: siege.target.address, from: Address(peer.host, 5), number: 1))
            _ = await peer.opsUntilPong()
            try await stream.send(ByteBuffer(bytes: [1]))
            #expect(await peer.opsUntilPong() == [])
            peer.send(WireOp(.rewind, to: siege.target.address, from: Address(peer.host, 5), number: .max))
            #expect(await peer.opsUntilPong().map(\.command) == Self.farewell)
            let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .soon) }
            #expect(error?.code == .protocolViolation)
        }
    }

    @Test func aForcedCloseEndsItsStream() async throws {
        let siege = try await Besieged()
        try await withTwoStreams(siege) { peer, stream in
            peer.send(peer.op(.forceClosed, to: siege.target.address, from: 5))
            let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .soon) }
            #expect(error?.code == .failedByPeer)
            #expect(await peer.opsUntilPong() == [])
        }
    }

    @Test func anErrorWithoutOrWithAnEndlessMessageEndsItsStream() async throws {
        for length in [0, 65_536] {
            let siege = try await Besieged()
            try await withTwoStreams(siege) { peer, stream in
                let message = [UInt8](repeating: 0x41, count: length)
                peer.send(peer.op(.err, to: siege.target.address, from: 5, payload: message))
                let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .soon) }
                #expect(error == AstraNetError(.failedByPeer, String(repeating: "A", count: min(length, 1_024))))
            }
        }
    }

    @Test(arguments: [0, 3, 5])
    func aNumberThatIsNoneIsIgnored(count: Int) async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        await peer.open(siege.target.address, from: 5)
        let stream = try await siege.target.nextStream(deadline: .soon)
        for command in [Command.rewind, .windowSize] {
            let payload = [UInt8](repeating: 0, count: count)
            peer.send(peer.op(command, to: siege.target.address, from: 5, payload: payload))
        }
        try await stream.send(ByteBuffer(bytes: [9]))
        #expect(await peer.first(.data)?.payload == [9])
        stream.close()
        await peer.close()
        try await siege.end()
    }

    @Test func aClosedWindowHoldsUpItsWriterOnly() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        await peer.open(siege.target.address, from: 5)
        let stream = try await siege.target.nextStream(deadline: .soon)
        peer.send(WireOp(.windowSize, to: siege.target.address, from: Address(peer.host, 5), number: 0))
        _ = await peer.opsUntilPong()
        try await stream.send(ByteBuffer(bytes: [1, 2, 3]))
        #expect(await peer.opsUntilPong() == [])
        peer.send(WireOp(.windowSize, to: siege.target.address, from: Address(peer.host, 5), number: 2))
        #expect(await peer.first(.data)?.payload == [1, 2])
        peer.send(WireOp(.rewind, to: siege.target.address, from: Address(peer.host, 5), number: 1))
        #expect(await peer.first(.data)?.payload == [3])
        stream.close()
        await peer.close()
        try await siege.end()
    }

    @Test func aResetEndsTheStreamsOfItsHostOnItsLinkAndWhatItToldThisNodeAlone() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        // As a router would, the peer speaks for two hosts behind it.
        let far = (1...2).map { HostID(rawValue: UInt64($0)) }
        var streams: [AstraNet.Stream] = []
        for host in far {
            peer.send(WireOp(.service, to: .otherEnd, from: Address(host, 3), text: "service"))
            peer.send(WireOp(.service, to: Address(siege.node.id, 0), from: Address(host, 4), text: "told"))
            peer.send(WireOp(.dial, to: siege.target.address, from: Address(host, 5)))
            peer.send(WireOp(.ack, to: siege.target.address, from: Address(host, 5)))
            streams.append(try await siege.target.nextStream(deadline: .soon))
        }
        peer.send(WireOp(.rst, to: Address(siege.node.id, 0), from: Address(far[0], 0)))
        let lost = streams[0]
        let error = await #expect(throws: AstraNetError.self) { try await lost.receive(deadline: .soon) }
        #expect(error?.code == .linkLost)
        // What the router announced the router withdraws; it may have heard of the host again meanwhile.
        let left = [Address(far[0], 3), Address(far[1], 3), Address(far[1], 4)]
        #expect(Set(siege.node.services.map(\.address)) == Set(left))
        peer.send(WireOp(.data, to: siege.target.address, from: Address(far[1], 5), payload: [1]))
        #expect(try await streams[1].receive(deadline: .soon) == ByteBuffer(bytes: [1]))
        for stream in streams { stream.close() }
        await peer.close()
        try await siege.end()
    }
}
