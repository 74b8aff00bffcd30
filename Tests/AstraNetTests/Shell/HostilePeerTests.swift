import AstraNet
import NIOCore
import Testing

/// Peers that violate the protocol or flood the node. Each affects only its own stream or link.
@Suite(.timeLimit(.minutes(5))) struct HostilePeerTests {
    // MARK: - Violations that end the link

    @Test(arguments: [
        Array("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8), [UInt8](repeating: 0xFF, count: 29),
        Array(0...255),
    ])
    func `garbage ends the link`(bytes: [UInt8]) async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.connect()
        peer.send(bytes)
        await peer.closed()
        try await harness.end()
    }

    @Test(arguments: [262_145, Int(Int32.max), Int(UInt32.max)])
    func `a payload length above the limit ends the link before the payload arrives`(length: Int) async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        var header = WireOp(.data, to: harness.target.address, from: Address(peer.host, 1)).encoded
        header.replaceSubrange(25..<29, with: [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) })
        peer.send(header)
        await peer.closed()
        try await harness.end()
    }

    @Test(arguments: ["", "[]", "no json", #"{"RAddr":7}"#])
    func `an invalid handshake ends the link`(json: String) async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.connect()
        peer.sendHandshake(json)
        await peer.closed()
        try await harness.end()
    }

    @Test func `a handshake with the node's own host id ends the link`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await RawPeer.connect(to: harness.address, host: harness.node.id)
        peer.sendHandshake()
        await peer.closed()
        try await harness.end()
    }

    @Test func `a missing or incomplete handshake ends the link at the timeout`() async throws {
        let harness = try await HostilePeerHarness { $0.handshakeTimeout = .milliseconds(10) }
        let silent = try await harness.connect()
        let half = try await harness.connect()
        half.send(Array(WireOp(.handshake, to: .otherEnd, from: Address(half.host, 0), text: "{}").encoded.dropLast()))
        let other = try await harness.connect()
        other.send(WireOp(.ping, to: .otherEnd, from: Address(other.host, 0)))
        await silent.closed()
        await half.closed()
        await other.closed()
        try await harness.end()
    }

    @Test func `an idle link sends a PING`() async throws {
        let harness = try await HostilePeerHarness { $0.pingInterval = .milliseconds(10) }
        let peer = try await harness.handshaken()
        #expect(await peer.first(.ping) == WireOp(.ping, to: .otherEnd, from: Address(harness.node.id, 0)))
        await peer.close()
        try await harness.end()
    }

    @Test func `the link of a silent peer is closed`() async throws {
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
    func `a flood of ops whose answers are not read ends the link`(command: Command) async throws {
        let harness = try await HostilePeerHarness { $0.maximumHalfOpenPerLink = 10 }
        let peer = try await harness.connect(reads: false)
        peer.sendHandshake(#"{"RAddr":"","Abilities":["refuse"]}"#)
        let question = peer.op(command, to: Address(harness.node.id, 99), from: 1).encoded
        let many = [[UInt8]](repeating: question, count: 10_000).flatMap { $0 }
        // Ends only because the node closes the link.
        while await peer.sendAll(many) {}
        peer.channel.close(promise: nil)
        try await harness.end()
    }

    @Test func `a connection that breaks within an op fails its streams`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        let data = peer.op(.data, to: harness.target.address, from: 5, payload: [1, 2, 3]).encoded
        _ = await peer.sendAll(data + data.dropLast())
        await peer.close()
        #expect(try await stream.receive(deadline: .testDeadline) == ByteBuffer(bytes: [1, 2, 3]))
        let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .testDeadline) }
        #expect(error?.code == .linkLost)
        stream.close()
        try await harness.end()
    }

    // MARK: - Ignored ops

    @Test func `ops before the handshake are dropped`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.connect()
        peer.send(WireOp(.ping, to: .otherEnd, from: Address(peer.host, 0)))
        peer.send(peer.op(.dial, to: harness.target.address, from: 5))
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "early"))
        let first = await peer.ops.next()
        #expect(first?.command == .handshake)
        peer.sendHandshake()
        let ops = await peer.opsUntilPong()
        #expect(ops.allSatisfy { $0.command == .service })
        #expect(harness.node.services == [])
        await peer.close()
        try await harness.end()
    }

    @Test func `ops that arrive byte by byte are handled`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        let payload = (0..<500).map { UInt8(truncatingIfNeeded: $0) }
        let ops = [
            peer.op(.dial, to: harness.target.address, from: 5), peer.op(.ack, to: harness.target.address, from: 5),
            peer.op(.data, to: harness.target.address, from: 5, payload: payload),
            peer.op(.fin2, to: harness.target.address, from: 5),
        ]
        for byte in ops.flatMap(\.encoded) {
            try #require(await peer.sendAll([byte]))
        }
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        #expect(try await stream.readAll() == ByteBuffer(bytes: payload))
        stream.close()
        await peer.close()
        try await harness.end()
    }

    @Test func `ops for unknown streams are ignored`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        let commands: [Command] = [
            .syn, .ack, .synAck, .fin1, .fin2, .err, .forceClosed, .data, .windowSize, .rewind, .rst, .follow,
            .pong, Command(rawValue: 0), Command(rawValue: 255),
        ]
        for command in commands {
            for payload in [[], [0, 0, 0, 9], [UInt8](repeating: 0xFF, count: 65_536)] {
                peer.send(peer.op(command, to: harness.target.address, from: 5, payload: payload))
                peer.send(peer.op(command, to: Address(harness.node.id, 0), from: 0, payload: payload))
            }
        }
        #expect(await peer.opsUntilPong() == [])
        await peer.close()
        try await harness.end()
    }

    @Test func `a node that is not a router does not forward ops`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        let elsewhere = Address(HostID(rawValue: 12_345), harness.target.address.port)
        peer.send(peer.op(.dial, to: elsewhere, from: 5))
        peer.send(peer.op(.ping, to: elsewhere, from: 0))
        #expect(await peer.opsUntilPong() == [])
        await peer.close()
        try await harness.end()
    }

    @Test func `a second handshake does not change the host id of the peer`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        peer.send(WireOp(.handshake, to: .otherEnd, from: Address(HostID(rawValue: 77), 0), text: "{}"))
        peer.send(WireOp(.service, to: .otherEnd, from: Address(HostID(rawValue: 77), 9), text: "thing"))
        // The node takes 77 for a host behind the peer and sends it a DISCOVER.
        #expect(await peer.opsUntilPong().map(\.command) == [.discover])
        #expect(harness.node.services.map(\.isRelayed) == [true])
        await peer.close()
        try await harness.end()
    }

    // MARK: - Violations that end the stream

    /// Opens two streams of one peer and calls `body` to break the first. Checks that the second still works.
    private func withTwoStreams(
        _ harness: HostilePeerHarness, _ body: (RawPeer, AstraNet.MeshStream) async throws -> Void
    ) async throws {
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        let harmed = try await harness.target.nextStream(deadline: .testDeadline)
        await peer.open(harness.target.address, from: 6)
        let other = try await harness.target.nextStream(deadline: .testDeadline)
        try await body(peer, harmed)
        peer.send(peer.op(.data, to: harness.target.address, from: 6, payload: [4, 2]))
        #expect(try await other.receive(deadline: .testDeadline) == ByteBuffer(bytes: [4, 2]))
        #expect(try await streamCount(beside: other) == 1)
        harmed.close()
        other.close()
        await peer.close()
        try await harness.end()
    }

    /// Number of streams on the link of `stream`.
    private func streamCount(beside stream: AstraNet.MeshStream) async throws -> Int {
        let link = stream.link
        return try await link.eventLoop.submit { link.handler.value?.streams.count ?? 0 }.get()
    }

    private static let failureOps: [Command] = [.err, .fin1, .fin2]

    @Test func `bytes beyond the window end their stream`() async throws {
        let harness = try await HostilePeerHarness()
        try await withTwoStreams(harness) { peer, stream in
            let bytes = [UInt8](repeating: 1, count: 32_768)
            for payload in [bytes, bytes, [2]] {
                peer.send(peer.op(.data, to: harness.target.address, from: 5, payload: payload))
            }
            #expect(await peer.opsUntilPong().map(\.command) == Self.failureOps)
            var read = ByteBuffer()
            let error = await #expect(throws: AstraNetError.self) {
                while let bytes = try await stream.receive(deadline: .testDeadline) { read.writeImmutableBuffer(bytes) }
            }
            #expect(read.readableBytes == 65_536, "the bytes within the window can be read")
            #expect(error?.code == .protocolViolation)
        }
    }

    @Test func `credit for bytes that were not sent ends the stream`() async throws {
        let harness = try await HostilePeerHarness()
        try await withTwoStreams(harness) { peer, stream in
            try await stream.send(ByteBuffer(repeating: 1, count: 10))
            _ = await peer.first(.data)
            peer.send(WireOp(.rewind, to: harness.target.address, from: Address(peer.host, 5), number: 11))
            #expect(await peer.opsUntilPong().map(\.command) == Self.failureOps)
            let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .testDeadline) }
            #expect(error?.code == .protocolViolation)
        }
    }

    @Test func `a window of the maximum size is used, and a REWIND of more than is in flight ends the stream`()
        async throws
    {
        let harness = try await HostilePeerHarness()
        try await withTwoStreams(harness) { peer, stream in
            let grant = WireOp(.windowSize, to: harness.target.address, from: Address(peer.host, 5), number: .max)
            peer.send([grant, grant])
            let sending = Task {
                for _ in 0..<20 {
                    try await stream.send(ByteBuffer(repeating: 1, count: 100_000), deadline: .testDeadline)
                }
            }
            var received = 0
            while received < 2_000_000, let op = await peer.first(.data) { received += op.payload.count }
            try await sending.value
            // A window smaller than the bytes in flight stops sending and does not end the stream.
            peer.send(WireOp(.windowSize, to: harness.target.address, from: Address(peer.host, 5), number: 1))
            _ = await peer.opsUntilPong()
            try await stream.send(ByteBuffer(bytes: [1]))
            #expect(await peer.opsUntilPong() == [])
            peer.send(WireOp(.rewind, to: harness.target.address, from: Address(peer.host, 5), number: .max))
            #expect(await peer.opsUntilPong().map(\.command) == Self.failureOps)
            let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .testDeadline) }
            #expect(error?.code == .protocolViolation)
        }
    }

    @Test func `FORCE_CLOSED ends the stream`() async throws {
        let harness = try await HostilePeerHarness()
        try await withTwoStreams(harness) { peer, stream in
            peer.send(peer.op(.forceClosed, to: harness.target.address, from: 5))
            let error = await #expect(throws: AstraNetError.self) { try await stream.receive(deadline: .testDeadline) }
            #expect(error?.code == .failedByPeer)
            #expect(await peer.opsUntilPong() == [])
        }
    }

    @Test func `an ERR with an empty or a very long text ends the stream`() async throws {
        for length in [0, 65_536] {
            let harness = try await HostilePeerHarness()
            try await withTwoStreams(harness) { peer, stream in
                let message = [UInt8](repeating: 0x41, count: length)
                peer.send(peer.op(.err, to: harness.target.address, from: 5, payload: message))
                let error = await #expect(throws: AstraNetError.self) {
                    try await stream.receive(deadline: .testDeadline)
                }
                #expect(error == AstraNetError(.failedByPeer, String(repeating: "A", count: min(length, 1_024))))
            }
        }
    }

    @Test(arguments: [0, 3, 5])
    func `REWIND and WND_SIZE with a payload of other than 4 bytes are ignored`(count: Int) async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        for command in [Command.rewind, .windowSize] {
            let payload = [UInt8](repeating: 0, count: count)
            peer.send(peer.op(command, to: harness.target.address, from: 5, payload: payload))
        }
        try await stream.send(ByteBuffer(bytes: [9]))
        #expect(await peer.first(.data)?.payload == [9])
        stream.close()
        await peer.close()
        try await harness.end()
    }

    @Test func `a window of 0 stops only the writer of its stream`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        await peer.open(harness.target.address, from: 5)
        let stream = try await harness.target.nextStream(deadline: .testDeadline)
        peer.send(WireOp(.windowSize, to: harness.target.address, from: Address(peer.host, 5), number: 0))
        _ = await peer.opsUntilPong()
        try await stream.send(ByteBuffer(bytes: [1, 2, 3]))
        #expect(await peer.opsUntilPong() == [])
        peer.send(WireOp(.windowSize, to: harness.target.address, from: Address(peer.host, 5), number: 2))
        #expect(await peer.first(.data)?.payload == [1, 2])
        peer.send(WireOp(.rewind, to: harness.target.address, from: Address(peer.host, 5), number: 1))
        #expect(await peer.first(.data)?.payload == [3])
        stream.close()
        await peer.close()
        try await harness.end()
    }

    @Test func `RST ends the streams and the private offers of its host on the link`() async throws {
        let harness = try await HostilePeerHarness()
        let peer = try await harness.handshaken()
        // The peer acts as a router with two hosts behind it.
        let far = (1...2).map { HostID(rawValue: UInt64($0)) }
        var streams: [AstraNet.MeshStream] = []
        for host in far {
            peer.send(WireOp(.service, to: .otherEnd, from: Address(host, 3), text: "service"))
            peer.send(WireOp(.service, to: Address(harness.node.id, 0), from: Address(host, 4), text: "private"))
            peer.send(WireOp(.dial, to: harness.target.address, from: Address(host, 5)))
            peer.send(WireOp(.ack, to: harness.target.address, from: Address(host, 5)))
            streams.append(try await harness.target.nextStream(deadline: .testDeadline))
        }
        peer.send(WireOp(.rst, to: Address(harness.node.id, 0), from: Address(far[0], 0)))
        let lost = streams[0]
        let error = await #expect(throws: AstraNetError.self) { try await lost.receive(deadline: .testDeadline) }
        #expect(error?.code == .linkLost)
        // Public offers stay until the router withdraws them: it may already have a new link to the host.
        let left = [Address(far[0], 3), Address(far[1], 3), Address(far[1], 4)]
        #expect(Set(harness.node.services.map(\.address)) == Set(left))
        peer.send(WireOp(.data, to: harness.target.address, from: Address(far[1], 5), payload: [1]))
        #expect(try await streams[1].receive(deadline: .testDeadline) == ByteBuffer(bytes: [1]))
        for stream in streams { stream.close() }
        await peer.close()
        try await harness.end()
    }
}
