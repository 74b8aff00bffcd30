import NIOCore
import Testing

@testable import AstraNet

/// Limits, and peers of a router that do not behave: the newest is refused and counted, the rest goes on.
@Suite(.timeLimit(.minutes(5))) struct MeshLimitTests {
    @Test func whatIsRefusedIsCounted() async throws {
        let siege = try await Besieged {
            $0.maximumLinks = 3
            $0.maximumStreamsPerLink = 3
            $0.maximumHalfOpenPerLink = 2
            $0.maximumServicesPerLink = 2
        }
        let peer = try await siege.handshaken()
        let tooMany = try await siege.connect()
        let another = try await siege.connect()
        await another.closed()
        #expect(siege.node.listing.refused.links == 1)
        await tooMany.close()
        peer.send((1...5).map { peer.op(.dial, to: siege.target.address, from: $0) })
        _ = await peer.opsUntilPong()
        #expect(siege.node.listing.refused.streams == 3)
        for index in 0..<7 {
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "\(index)"))
        }
        _ = await peer.opsUntilPong()
        #expect(siege.node.listing.refused.services == 5)
        await peer.close()
        try await siege.end()
    }

    @Test(arguments: [true, false])
    func unreadBytesBeyondTheLimitFailOnlyTheStreamTheyComeOn(forAll: Bool) async throws {
        let siege = try await Besieged {
            if forAll { $0.maximumBuffered = 1 << 20 } else { $0.maximumBufferedPerLink = 1 << 20 }
        }
        let peer = try await siege.handshaken()
        var streams: [AstraNet.Stream] = []
        // An eighth is kept for what is no stream's, half an op for example.
        for port: UInt32 in 1...16 {
            await peer.open(siege.target.address, from: port)
            streams.append(try await siege.target.nextStream(deadline: .soon))
            peer.send(
                peer.op(.data, to: siege.target.address, from: port, payload: [UInt8](repeating: 1, count: 60_000)))
        }
        #expect(await peer.first(.err)?.destination.port == 16)
        #expect(siege.node.listing.refused.overfull == 1)
        #expect(await streams[15].failure()?.code == .limitReached)
        for stream in streams[..<15] {
            #expect(try await stream.receive(deadline: .soon)?.readableBytes == 60_000)
        }
        #expect(siege.node.core.buffered.held == 0)
        // What was read makes room.
        peer.send(peer.op(.data, to: siege.target.address, from: 1, payload: [1]))
        #expect(try await streams[0].receive(deadline: .soon)?.readableBytes == 1)
        await peer.close()
        try await siege.end()
    }

    @Test func halfOpsCountAndTheOneThatLastsLongestEndsItsLinkWhereTheNodeHoldsAsMuchAsItMay() async throws {
        let siege = try await Besieged { $0.maximumBuffered = 1 << 20 }
        var peers: [RawPeer] = []
        let half = WireOp.headerSize + 249_999
        for count in 1...5 {
            let peer = try await siege.handshaken(#"{"RAddr":"","MaxOp":262144}"#)
            let op = peer.op(.data, to: siege.target.address, from: 5, payload: [UInt8](repeating: 1, count: 250_000))
            try #require(await peer.sendAll(op.encoded.dropLast()))
            peers.append(peer)
            if count < 5 { try await eventually { siege.node.bufferedBytes == count * half } }
        }
        await peers[0].closed()
        try await eventually { siege.node.bufferedBytes == 4 * half }
        // What comes whole is held no longer, nor is what came over a link that is gone.
        peers[4].send([1])
        _ = await peers[4].opsUntilPong()
        #expect(siege.node.bufferedBytes == 3 * half)
        for peer in peers { await peer.close() }
        try await eventually { siege.node.bufferedBytes == 0 }
        try await siege.end()
    }

    @Test func whatComesBehindTheEndOfALinkIsHeldByNobody() async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        await peer.open(siege.target.address, from: 5)
        peer.send([UInt8](repeating: 0xFF, count: 100_000))
        await peer.closed()
        // Its streams end after its bytes were given back.
        let stream = try await siege.target.nextStream(deadline: .soon)
        #expect(await stream.failure()?.code == .protocolViolation)
        let link = stream.link
        // Behind the read that ended it.
        try await link.eventLoop.submit {}.get()
        #expect(siege.node.bufferedBytes == 0)
        stream.close()
        try await siege.end()
    }

    @Test func aLinkWithHalfAnOpStaysWhereOthersHoldAllThatThereMayBe() async throws {
        let siege = try await Besieged { $0.maximumBuffered = 1 << 20 }
        let greedy = try await siege.handshaken()
        var streams: [AstraNet.Stream] = []
        for port: UInt32 in 1...15 {
            await greedy.open(siege.target.address, from: port)
            streams.append(try await siege.target.nextStream(deadline: .soon))
            greedy.send(
                greedy.op(.data, to: siege.target.address, from: port, payload: [UInt8](repeating: 1, count: 60_000)))
        }
        _ = await greedy.opsUntilPong()
        #expect(siege.node.bufferedBytes == 15 * 60_000)
        let innocent = try await siege.handshaken(#"{"RAddr":"","MaxOp":262144}"#)
        let ping = innocent.op(.ping, to: siege.target.address, from: 5, payload: [UInt8](repeating: 1, count: 250_000))
        try #require(await innocent.sendAll(ping.encoded.dropLast()))
        try await eventually { siege.node.bufferedBytes == 15 * 60_000 + WireOp.headerSize + 249_999 }
        innocent.send([1])
        #expect(await innocent.first(.pong)?.source == siege.target.address)
        #expect(siege.node.bufferedBytes == 15 * 60_000)
        for stream in streams { stream.close() }
        for peer in [greedy, innocent] { await peer.close() }
        try await siege.end()
    }

    /// A router with a peer that reads nothing, and one that sends to it.
    @Test func aRouterHoldsForAPeerThatDoesNotReadNoMoreThanItsBudget() async throws {
        let siege = try await Besieged {
            $0.role = .router
            $0.maximumBufferedPerLink = 8 << 20
        }
        let slow = try await siege.connect(reads: false)
        slow.sendHandshake()
        try await eventually { siege.node.peers.contains(slow.host) }
        let sender = try await siege.handshaken()
        let far = Address(slow.host, 9)
        // More windows than the sockets and the budget take; each stream heeds its credit.
        for port: UInt32 in 1...400 {
            sender.send([
                sender.op(.dial, to: far, from: port),
                sender.op(.data, to: far, from: port, payload: [UInt8](repeating: 1, count: 65_536)),
            ])
        }
        #expect(await sender.first(.err)?.source == far)
        #expect(await sender.opsUntilPong().allSatisfy { [.err, .fin1, .fin2].contains($0.command) })
        #expect(siege.node.core.buffered.held <= 8 << 20)
        #expect(siege.node.listing.refused.overfull > 0)
        #expect(siege.node.peers.contains(slow.host))
        slow.channel.close(promise: nil)
        #expect(await sender.first(.rst)?.source.host == slow.host)
        try await eventually { siege.node.core.buffered.held == 0 }
        await sender.close()
        try await siege.end()
    }

    @Test func whoFloodsARouterWithoutCreditHarmsItselfAlone() async throws {
        let siege = try await Besieged {
            $0.role = .router
            $0.maximumBufferedPerLink = 1 << 20
        }
        let slow = try await siege.connect(reads: false)
        slow.sendHandshake()
        try await eventually { siege.node.peers.contains(slow.host) }
        let flooder = try await siege.handshaken()
        let many = [[UInt8]](
            repeating: flooder.op(.rewind, to: Address(slow.host, 9), from: 5, payload: [0, 0, 0, 1]).encoded,
            count: 10_000
        ).flatMap { $0 }
        // Ends only because the router closes the flooder's link.
        while await flooder.sendAll(many) {}
        await flooder.closed()
        #expect(siege.node.peers.contains(slow.host))
        slow.channel.close(promise: nil)
        try await siege.end()
    }

    @Test func nobodySpeaksForOthersThroughARouter() async throws {
        let siege = try await Besieged { $0.role = .router }
        let victim = try await siege.handshaken()
        let liar = try await siege.handshaken()
        for command in [Command.dial, .data, .rst, .service, .err, .follow] {
            liar.send(WireOp(command, to: Address(victim.host, 5), from: Address(siege.node.id, 5)))
            liar.send(WireOp(command, to: Address(victim.host, 5), from: Address(.random(), 5)))
            liar.send(WireOp(command, to: Address(victim.host, 5), from: .otherEnd))
        }
        _ = await liar.opsUntilPong()
        #expect(await victim.opsUntilPong() == [])
        // In its own name it may, and to nobody there is no way.
        liar.send(liar.op(.dial, to: Address(victim.host, 5), from: 5))
        #expect(await victim.first(.dial)?.source == Address(liar.host, 5))
        liar.send(liar.op(.dial, to: Address(HostID(rawValue: 7), 5), from: 5))
        #expect(await liar.first(.rst)?.source.host == HostID(rawValue: 7))
        await liar.close()
        await victim.close()
        try await siege.end()
    }

    @Test(arguments: [Command.rst, .discover, .follow, .noService])
    func aFloodOfOpsAboutOthersHarmsNobody(command: Command) async throws {
        let siege = try await Besieged()
        let peer = try await siege.handshaken()
        let flood = (0..<5_000).flatMap { index in
            WireOp(
                command, to: .otherEnd, from: Address(HostID(rawValue: UInt64(index + 1)), 5), text: "127.0.0.1:1"
            ).encoded
        }
        for _ in 0..<20 {
            guard await peer.sendAll(flood) else { break }
        }
        try await siege.expectUnharmed()
        await peer.close()
        try await siege.end()
    }

    @Test func aMillionServicesStopAtTheLimitAndGoWithTheirLink() async throws {
        let siege = try await Besieged { $0.maximumServicesPerLink = 1_000 }
        let peer = try await siege.connect()
        #expect(await peer.handshake() == siege.node.id)
        let batch = (0..<10_000).flatMap { index in
            WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "\(index)").encoded
        }
        for _ in 0..<100 { try #require(await peer.sendAll(batch)) }
        _ = await peer.opsUntilPong()
        #expect(siege.node.services.count == 1_000)
        #expect(siege.node.listing.refused.services == 900_000)
        try await siege.expectUnharmed()
        await peer.close()
        try await eventually { siege.node.services.isEmpty }
        try await siege.end()
    }

    @Test func aHandshakeThatComesByteByByteAndNeverEndsEndsItsLinkInTime() async throws {
        let siege = try await Besieged { $0.handshakeTimeout = .milliseconds(500) }
        let slow = try await siege.connect()
        // As long as a handshake may be, a byte at a time: to its end it would take minutes.
        var bytes = WireOp(
            .handshake, to: .otherEnd, from: Address(slow.host, 0), text: String(repeating: " ", count: 65_536)
        ).encoded[...]
        while let byte = bytes.popFirst(), await slow.sendAll([byte]) { try await Task.sleep(for: .milliseconds(5)) }
        await slow.closed()
        #expect(bytes.count > 60_000)
        #expect(!siege.node.peers.contains(slow.host))
        try await siege.end()
    }

    @Test func anOpBeyondGosLimitBeforeTheHandshakeEndsItsLink() async throws {
        let siege = try await Besieged()
        let peer = try await siege.connect()
        peer.send(peer.op(.data, to: .otherEnd, from: 0, payload: [UInt8](repeating: 0, count: 65_537)))
        await peer.closed()
        try await siege.end()
    }
}
