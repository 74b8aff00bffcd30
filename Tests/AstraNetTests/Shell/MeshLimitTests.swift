import AstraNet
import NIOCore
import Testing

/// Limits, and peers that misuse a router. The node refuses and counts what exceeds a limit; everything else continues.
@Suite(.timeLimit(.minutes(5))) struct MeshLimitTests {
    @Test func `refused links, streams and services are counted`() async throws {
        let harness = try await HostilePeerHarness {
            $0.maximumLinks = 3
            $0.maximumStreamsPerLink = 3
            $0.maximumHalfOpenPerLink = 2
            $0.maximumServicesPerLink = 2
        }
        let peer = try await harness.handshaken()
        let tooMany = try await harness.connect()
        let another = try await harness.connect()
        await another.closed()
        #expect(harness.node.listing.refused.links == 1)
        await tooMany.close()
        peer.send((1...5).map { peer.op(.dial, to: harness.target.address, from: $0) })
        _ = await peer.opsUntilPong()
        #expect(harness.node.listing.refused.streams == 3)
        for index in 0..<7 {
            peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "\(index)"))
        }
        _ = await peer.opsUntilPong()
        #expect(harness.node.listing.refused.services == 5)
        await peer.close()
        try await harness.end()
    }

    @Test(arguments: [true, false])
    func `unread bytes beyond the limit fail only their stream`(forAll: Bool) async throws {
        let harness = try await HostilePeerHarness {
            if forAll { $0.maximumBuffered = 1 << 20 } else { $0.maximumBufferedPerLink = 1 << 20 }
        }
        let peer = try await harness.handshaken()
        var streams: [AstraNet.MeshStream] = []
        // An eighth of the limit is reserved for bytes outside of streams, such as incomplete ops.
        for port: UInt32 in 1...16 {
            await peer.open(harness.target.address, from: port)
            streams.append(try await harness.target.nextStream(deadline: .testDeadline))
            peer.send(
                peer.op(.data, to: harness.target.address, from: port, payload: [UInt8](repeating: 1, count: 60_000)))
        }
        #expect(await peer.first(.err)?.destination.port == 16)
        #expect(harness.node.listing.refused.overfull == 1)
        #expect(await streams[15].failure()?.code == .limitReached)
        for stream in streams[..<15] {
            #expect(try await stream.receive(deadline: .testDeadline)?.readableBytes == 60_000)
        }
        #expect(harness.node.core.buffered.held == 0)
        // Reading frees the budget.
        peer.send(peer.op(.data, to: harness.target.address, from: 1, payload: [1]))
        #expect(try await streams[0].receive(deadline: .testDeadline)?.readableBytes == 1)
        await peer.close()
        try await harness.end()
    }

    @Test func `incomplete ops count as buffered, and at the limit the oldest one ends its link`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumBuffered = 1 << 20 }
        var peers: [RawPeer] = []
        let half = WireOp.headerSize + 249_999
        for count in 1...5 {
            let peer = try await harness.handshaken(#"{"RAddr":"","MaxOp":262144}"#)
            let op = peer.op(.data, to: harness.target.address, from: 5, payload: [UInt8](repeating: 1, count: 250_000))
            try #require(await peer.sendAll(op.encoded.dropLast()))
            peers.append(peer)
            if count < 5 { try await eventually { harness.node.bufferedBytes == count * half } }
        }
        await peers[0].closed()
        try await eventually { harness.node.bufferedBytes == 4 * half }
        // A completed op is not held any longer, and neither are the bytes of a closed link.
        peers[4].send([1])
        _ = await peers[4].opsUntilPong()
        #expect(harness.node.bufferedBytes == 3 * half)
        for peer in peers { await peer.close() }
        try await eventually { harness.node.bufferedBytes == 0 }
        try await harness.end()
    }

    @Test func `bytes that arrive after the end of a link are not held`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        peer.send([UInt8](repeating: 0xFF, count: 100_000))
        await peer.closed()
        // The link releases its bytes before it ends its streams.
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        #expect(await stream.failure()?.code == .protocolViolation)
        let link = stream.link
        // Waits for the read that ended the link.
        try await link.eventLoop.submit {}.get()
        #expect(harness.node.bufferedBytes == 0)
        stream.close()
        try await harness.end()
    }

    @Test func `a link with an incomplete op survives while another link uses the whole budget`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumBuffered = 1 << 20 }
        let greedy = try await harness.handshaken()
        var streams: [AstraNet.MeshStream] = []
        for port: UInt32 in 1...15 {
            await greedy.open(harness.target.address, from: port)
            streams.append(try await harness.target.nextStream(deadline: .testDeadline))
            greedy.send(
                greedy.op(.data, to: harness.target.address, from: port, payload: [UInt8](repeating: 1, count: 60_000)))
        }
        _ = await greedy.opsUntilPong()
        #expect(harness.node.bufferedBytes == 15 * 60_000)
        let innocent = try await harness.handshaken(#"{"RAddr":"","MaxOp":262144}"#)
        let ping = innocent.op(
            .ping, to: harness.target.address, from: 5, payload: [UInt8](repeating: 1, count: 250_000))
        try #require(await innocent.sendAll(ping.encoded.dropLast()))
        try await eventually { harness.node.bufferedBytes == 15 * 60_000 + WireOp.headerSize + 249_999 }
        innocent.send([1])
        #expect(await innocent.first(.pong)?.source == harness.target.address)
        #expect(harness.node.bufferedBytes == 15 * 60_000)
        for stream in streams { stream.close() }
        for peer in [greedy, innocent] { await peer.close() }
        try await harness.end()
    }

    /// The router has one peer that does not read and one peer that sends to it.
    @Test func `a router buffers at most its budget for a peer that does not read`() async throws {
        let harness = try await HostilePeerHarness {
            $0.role = .router
            $0.maximumBufferedPerLink = 8 << 20
        }
        let slow = try await harness.connect(reads: false)
        slow.sendHandshake()
        try await eventually { harness.node.peers.contains(slow.host) }
        let sender = try await harness.handshaken()
        let far = Address(slow.host, 9)
        // More windows than sockets and budget can hold. Each stream keeps to its credit.
        for port: UInt32 in 1...400 {
            sender.send([
                sender.op(.dial, to: far, from: port),
                sender.op(.data, to: far, from: port, payload: [UInt8](repeating: 1, count: 65_536)),
            ])
        }
        #expect(await sender.first(.err)?.source == far)
        #expect(await sender.opsUntilPong().allSatisfy { [.err, .fin1, .fin2].contains($0.command) })
        #expect(harness.node.core.buffered.held <= 8 << 20)
        #expect(harness.node.listing.refused.overfull > 0)
        #expect(harness.node.peers.contains(slow.host))
        slow.channel.close(promise: nil)
        #expect(await sender.first(.rst)?.source.host == slow.host)
        try await eventually { harness.node.core.buffered.held == 0 }
        await sender.close()
        try await harness.end()
    }

    @Test func `a peer that floods a router with control ops loses only its own link`() async throws {
        let harness = try await HostilePeerHarness {
            $0.role = .router
            $0.maximumBufferedPerLink = 1 << 20
        }
        let slow = try await harness.connect(reads: false)
        slow.sendHandshake()
        try await eventually { harness.node.peers.contains(slow.host) }
        let flooder = try await harness.handshaken()
        let many = [[UInt8]](
            repeating: flooder.op(.rewind, to: Address(slow.host, 9), from: 5, payload: [0, 0, 0, 1]).encoded,
            count: 10_000
        ).flatMap { $0 }
        // Ends only because the router closes the flooder's link.
        while await flooder.sendAll(many) {}
        await flooder.closed()
        #expect(harness.node.peers.contains(slow.host))
        slow.channel.close(promise: nil)
        try await harness.end()
    }

    @Test func `a router forwards only ops with the peer's own source host`() async throws {
        let harness = try await HostilePeerHarness { $0.role = .router }
        let victim = try await harness.handshaken()
        let liar = try await harness.handshaken()
        for command in [Command.dial, .data, .rst, .service, .err, .follow] {
            liar.send(WireOp(command, to: Address(victim.host, 5), from: Address(harness.node.id, 5)))
            liar.send(WireOp(command, to: Address(victim.host, 5), from: Address(.random(), 5)))
            liar.send(WireOp(command, to: Address(victim.host, 5), from: .otherEnd))
        }
        _ = await liar.opsUntilPong()
        #expect(await victim.opsUntilPong() == [])
        // An op with its own source host is forwarded. An op for an unknown host is answered with RST.
        liar.send(liar.op(.dial, to: Address(victim.host, 5), from: 5))
        #expect(await victim.first(.dial)?.source == Address(liar.host, 5))
        liar.send(liar.op(.dial, to: Address(HostID(rawValue: 7), 5), from: 5))
        #expect(await liar.first(.rst)?.source.host == HostID(rawValue: 7))
        await liar.close()
        await victim.close()
        try await harness.end()
    }

    @Test(arguments: [Command.rst, .discover, .follow, .noService])
    func `a flood of ops about unknown hosts does not affect other links`(command: Command) async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        let flood = (0..<5_000).flatMap { index in
            WireOp(
                command, to: .otherEnd, from: Address(HostID(rawValue: UInt64(index + 1)), 5), text: "127.0.0.1:1"
            ).encoded
        }
        for _ in 0..<20 {
            guard await peer.sendAll(flood) else { break }
        }
        try await harness.expectOtherLinkWorks()
        await peer.close()
        try await harness.end()
    }

    @Test func `a million services stop at the limit and end with their link`() async throws {
        let harness = try await HostilePeerHarness { $0.maximumServicesPerLink = 1_000 }
        let peer = try await harness.connect()
        #expect(await peer.handshake() == harness.node.id)
        let batch = (0..<10_000).flatMap { index in
            WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "\(index)").encoded
        }
        for _ in 0..<100 { try #require(await peer.sendAll(batch)) }
        _ = await peer.opsUntilPong()
        #expect(harness.node.services.count == 1_000)
        #expect(harness.node.listing.refused.services == 900_000)
        try await harness.expectOtherLinkWorks()
        await peer.close()
        try await eventually { harness.node.services.isEmpty }
        try await harness.end()
    }

    @Test func `a handshake that arrives too slowly ends the link at the timeout`() async throws {
        let harness = try await HostilePeerHarness { $0.handshakeTimeout = .milliseconds(500) }
        let slow = try await harness.connect()
        // A handshake of the maximum size, one byte at a time. It would take minutes to arrive.
        var bytes = WireOp(
            .handshake, to: .otherEnd, from: Address(slow.host, 0), text: String(repeating: " ", count: 65_536)
        ).encoded[...]
        while let byte = bytes.popFirst(), await slow.sendAll([byte]) { try await Task.sleep(for: .milliseconds(5)) }
        await slow.closed()
        #expect(bytes.count > 60_000)
        #expect(!harness.node.peers.contains(slow.host))
        try await harness.end()
    }

    @Test func `an op of more than 64 KiB before the handshake ends the link`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.connect()
        peer.send(peer.op(.data, to: .otherEnd, from: 0, payload: [UInt8](repeating: 0, count: 65_537)))
        await peer.closed()
        try await harness.end()
    }
}
