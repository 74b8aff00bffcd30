import AstraNet
import NIOCore
import Testing

/// Peers that violate the rules of pushed sources (docs/protocol.md §6). Only the affected request or source fails, and
/// no resources stay in use.
@Suite(.timeLimit(.minutes(5))) struct HostilePushTests {
    // MARK: - A hostile server

    /// A client whose requests a raw peer serves, and a well-behaved server on another link.
    private struct Victim {
        let node = Node.withoutTimeouts(.client)
        let peer: RawPeer
        let service: Address
        private let goodPeer = Node.withoutTimeouts(.server)
        private let echo: Listener

        init() async throws {
            echo = try goodPeer.echo("echo")
            peer = try await RawPeer.connect(to: try await node.listening())
            #expect(await peer.handshake(RawPeer.ourHandshake) == node.id)
            service = Address(peer.host, 9)
            peer.send(WireOp(.service, to: .otherEnd, from: service, text: "push"))
            _ = await peer.opsUntilPong()
            try await node.join(try await goodPeer.listening())
        }

        /// Dials the raw peer, which accepts with a SYN.
        func request(_ sources: Int = 2) async throws -> Request {
            let wanted = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: sources)
            async let dialled = node.dial("push", wanted, deadline: .testDeadline)
            let dial = try #require(await peer.first(.dial))
            peer.send(WireOp(.syn, to: dial.source, from: dial.destination))
            let master = try await dialled
            #expect((dial.block?.push != nil) == (sources > 0))
            // Waits for the body.
            _ = await peer.opsUntilPong()
            return Request(peer: peer, dial: dial, master: master)
        }

        /// Checks that the other link still works and that no resources are in use, and shuts down.
        func end() async throws {
            try await node.expectEcho("echo", count: 100_000)
            #expect(await peer.opsUntilPong().filter { $0.command != .windowSize } == [])
            try await node.expectNothingLeft()
            #expect(node.linkCount == 2)
            echo.close()
            await peer.close()
            await node.shutdown()
            await goodPeer.shutdown()
        }
    }

    private struct Request {
        let peer: RawPeer
        let dial: WireOp
        let master: AstraNet.MeshStream
        var nonce: UInt64 { dial.block?.push?.nonce ?? 0 }

        /// The DIAL of a pushed source.
        func push(
            from port: UInt32, _ index: UInt32, nonce: UInt64? = nil, host: HostID? = nil, to address: Address? = nil,
            of master: UInt32? = nil
        ) -> WireOp {
            let source = DialBlock.Source(
                nonce: nonce ?? self.nonce, streamPort: master ?? dial.destination.port, index: index)
            return WireOp(
                .dial, to: address ?? dial.source, from: Address(host ?? peer.host, port),
                payload: DialBlock(source: source).bytes)
        }

        /// Another op of a pushed source.
        func op(_ command: Command, from port: UInt32, _ payload: [UInt8] = []) -> WireOp {
            WireOp(command, to: dial.source, from: Address(peer.host, port), payload: payload)
        }

        /// All ops of a pushed source: DIAL, bytes and end.
        func whole(from port: UInt32, _ index: UInt32, _ text: String) -> [WireOp] {
            [
                push(from: port, index), op(.data, from: port, Array(text.utf8)), op(.fin1, from: port),
                op(.fin2, from: port),
            ]
        }

        /// Sends ops and expects exactly one ERR for each of `ports` and no other answers.
        func expectRefused(_ ops: [WireOp], _ ports: [Address], sourceLocation: SourceLocation = #_sourceLocation) async
        {
            peer.send(ops)
            let answers = await peer.opsUntilPong()
            #expect(answers.map(\.command) == ports.map { _ in .err }, sourceLocation: sourceLocation)
            #expect(answers.map(\.destination) == ports, sourceLocation: sourceLocation)
        }

        func expectRefused(_ ops: [WireOp], from port: UInt32, sourceLocation: SourceLocation = #_sourceLocation) async
        {
            await expectRefused(ops, [Address(peer.host, port)], sourceLocation: sourceLocation)
        }

        /// Checks that a valid source is accepted and that the request ends well.
        func expectServed(from index: UInt32 = 0, sourceLocation: SourceLocation = #_sourceLocation) async throws {
            peer.send(whole(from: 1_000 + index, index, "served"))
            let source = try await master.nextPushed()
            #expect(try await source.readText() == "served", sourceLocation: sourceLocation)
            let syn = await peer.first(.syn)
            #expect(syn == WireOp(.syn, to: Address(peer.host, 1_000 + index), from: dial.source))
            peer.send([op(.fin1, from: dial.destination.port), op(.fin2, from: dial.destination.port)])
            try await master.expectFinished(sourceLocation: sourceLocation)
            master.close()
        }
    }

    @Test func `a wrong nonce is refused`() async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        for nonce in [0, request.nonce &+ 1, .max] {
            await request.expectRefused(
                [request.push(from: 20, 0, nonce: nonce), request.op(.data, from: 20, [1])], from: 20)
        }
        try await request.expectServed()
        try await victim.end()
    }

    @Test func `the nonces of requests differ`() async throws {
        let victim = try await Victim()
        let (one, other) = (try await victim.request(), try await victim.request())
        #expect(one.nonce != other.nonce)
        await one.expectRefused([one.push(from: 20, 0, nonce: other.nonce)], from: 20)
        try await one.expectServed()
        try await other.expectServed()
        try await victim.end()
    }

    @Test func `a source with the host id of another host is refused`() async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        let other = HostID.random()
        await request.expectRefused([request.push(from: 20, 0, host: other)], [Address(other, 20)])
        try await request.expectServed()
        try await victim.end()
    }

    @Test(arguments: [[1], [0, 0], [0, 2], [0, UInt32.max], [UInt32.max]])
    func `an index that is not the next one is refused`(indices: [UInt32]) async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        let isFirstWrong = indices.count == 1
        if !isFirstWrong { request.peer.send(request.whole(from: 20, 0, "first")) }
        await request.expectRefused([request.push(from: 21, indices[indices.count - 1])], from: 21)
        if !isFirstWrong {
            #expect(try await request.master.nextPushed().readText() == "first")
            #expect(await request.peer.first(.syn)?.destination.port == 20)
        }
        try await request.expectServed(from: isFirstWrong ? 0 : 1)
        try await victim.end()
    }

    @Test func `a server port that is in use is refused`() async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        request.peer.send([request.push(from: 20, 0), request.op(.data, from: 20, [1])])
        await request.expectRefused([request.push(from: 20, 1)], from: 20)
        await request.expectRefused([request.push(from: request.dial.destination.port, 1)], from: victim.service.port)
        // The source that uses the port continues.
        request.peer.send([request.op(.data, from: 20, [2]), request.op(.fin1, from: 20), request.op(.fin2, from: 20)])
        #expect(try await request.master.nextPushed().readAll() == ByteBuffer(bytes: [1, 2]))
        #expect(await request.peer.first(.syn)?.destination.port == 20)
        try await request.expectServed(from: 1)
        try await victim.end()
    }

    @Test(arguments: [false, true])
    func `more unaccepted sources than granted fail the request, even if they have ended`(
        haveEnded: Bool
    ) async throws {
        let victim = try await Victim()
        let (request, other) = (try await victim.request(2), try await victim.request())
        for index in UInt32(0)..<2 {
            request.peer.send(
                haveEnded ? request.whole(from: 20 + index, index, "x") : [request.push(from: 20 + index, index)])
        }
        request.peer.send([request.push(from: 22, 2), request.op(.data, from: 22, [1])])
        let answers = await request.peer.opsUntilPong()
        #expect(answers.map(\.command) == [.err, .err, .fin1, .fin2])
        #expect(Set(answers.map(\.destination.port)) == [22, victim.service.port])
        #expect(try await request.master.newsFailure()?.code == .protocolViolation)
        request.master.close()
        _ = await request.peer.opsUntilPong()
        try await other.expectServed()
        try await victim.end()
    }

    @Test func `more bytes than granted fail the request`() async throws {
        let victim = try await Victim()
        let (request, other) = (try await victim.request(), try await victim.request())
        let window = [UInt8](repeating: 7, count: 16_384)
        request.peer.send([request.push(from: 20, 0), request.op(.data, from: 20, window)])
        request.peer.send([request.push(from: 21, 1), request.op(.data, from: 21, window + [1])])
        let answers = await request.peer.opsUntilPong()
        #expect(answers.filter { $0.command == .err }.map(\.destination.port) == [21, victim.service.port])
        let source = try await request.master.nextPushed()
        #expect(try await source.receive(deadline: .testDeadline)?.readableBytes == 16_384)
        #expect(try await request.master.newsFailure()?.code == .protocolViolation)
        source.close()
        request.master.close()
        _ = await request.peer.opsUntilPong()
        try await other.expectServed()
        try await victim.end()
    }

    @Test func `an accepted source has a window of 65,536 bytes`() async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        request.peer.send([
            request.push(from: 20, 0), request.op(.data, from: 20, [UInt8](repeating: 7, count: 16_384)),
        ])
        let source = try await request.master.nextPushed()
        #expect(await request.peer.first(.syn) != nil)
        request.peer.send(request.op(.data, from: 20, [UInt8](repeating: 7, count: 49_152)))
        _ = await request.peer.opsUntilPong()
        #expect(source.phase == .open)
        request.peer.send(request.op(.data, from: 20, [1]))
        #expect(await request.peer.first(.err)?.destination.port == 20)
        #expect(await source.failure()?.code == .protocolViolation)
        _ = await request.peer.opsUntilPong()
        // The violation fails only the accepted source, and the request continues.
        try await request.expectServed(from: 1)
        try await victim.end()
    }

    @Test func `a pushed source for a request without a grant is refused`() async throws {
        let victim = try await Victim()
        let request = try await victim.request(0)
        await request.expectRefused([request.push(from: 20, 0), request.op(.data, from: 20, [1])], from: 20)
        request.master.close()
        #expect(await request.peer.first(.fin2) != nil)
        try await victim.end()
    }

    @Test(arguments: [[Command.fin2], [.fin1, .fin2], [.err], [.forceClosed]])
    func `a source that is pushed after the end of its request is refused`(ending: [Command]) async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        request.peer.send(ending.map { request.op($0, from: victim.service.port) })
        await request.expectRefused([request.push(from: 20, 0), request.op(.data, from: 20, [1])], from: 20)
        #expect((try await request.master.newsFailure() == nil) == (ending.last == .fin2))
        request.master.close()
        // After FIN2 alone the client still sends its own end.
        if ending == [.fin2] { #expect(await request.peer.first(.fin2) != nil) }
        try await victim.end()
    }

    @Test func `a source of a closed, unknown or other request is refused`() async throws {
        let victim = try await Victim()
        let (request, other) = (try await victim.request(), try await victim.request())
        let client = request.dial.source
        await request.expectRefused([request.push(from: 20, 0, to: Address(client.host, 77_777))], from: 20)
        await request.expectRefused([request.push(from: 20, 0, of: 77_777)], from: 20)
        await request.expectRefused([request.push(from: 20, 0, to: other.dial.source)], from: 20)
        request.master.close()
        #expect(await request.peer.first(.fin2) != nil)
        await request.expectRefused([request.push(from: 20, 0)], from: 20)
        try await other.expectServed()
        try await victim.end()
    }

    @Test func `a pushed source never reaches a listener, and a plain DIAL never reaches a request`() async throws {
        let victim = try await Victim()
        let listener = try victim.node.bind("listening")
        let request = try await victim.request()
        await request.expectRefused([request.push(from: 20, 0, to: listener.address)], from: 20)
        await request.expectRefused(
            [WireOp(.dial, to: request.dial.source, from: Address(request.peer.host, 21))], from: 21)
        await request.expectRefused(
            [
                WireOp(
                    .dial, to: request.dial.source, from: Address(request.peer.host, 21),
                    payload: DialBlock(push: DialBlock.Push(nonce: request.nonce, maximumSources: 1, window: 1)).bytes)
            ], from: 21)
        await #expect(throws: AstraNetError.self) { try await listener.nextStream(deadline: .now) }
        try await request.expectServed()
        listener.close()
        try await victim.end()
    }

    @Test func `ops for unknown sources are ignored`() async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        var ops: [WireOp] = []
        for command in [Command.syn, .ack, .synAck, .fin1, .fin2, .err, .forceClosed] {
            ops.append(request.op(command, from: 20))
        }
        ops.append(request.op(.data, from: 20, [1]))
        ops.append(request.op(.rewind, from: 20, [0, 0, 0, 1]))
        ops.append(request.op(.windowSize, from: 20, [0, 0, 0, 1]))
        await request.expectRefused(ops, [])
        try await request.expectServed()
        try await victim.end()
    }

    @Test func `an invalid dial block is ignored as a whole`() async throws {
        let victim = try await Victim()
        let listener = try victim.node.bind("listening")
        let request = try await victim.request()
        let source = DialBlock(
            source: DialBlock.Source(nonce: request.nonce, streamPort: victim.service.port, index: 0))
        let push = DialBlock.Push(nonce: 1, maximumSources: 1, window: 1)
        var large = DialBlock(push: push, meta: "")
        large.meta = String(repeating: "m", count: DialBlock.maximumReceivedSize + 1 - large.encodedSize)
        let payloads: [[UInt8]] = [
            [0], [1, 16], [2] + source.bytes.dropFirst(), Array(source.bytes.dropLast()), source.bytes + [0],
            source.bytes + source.bytes.dropFirst(), large.bytes, Array(repeating: 255, count: 60_000),
        ]
        for (index, payload) in payloads.enumerated() {
            let port = 20 + UInt32(index)
            let from = Address(request.peer.host, port)
            // Without its block this is a plain DIAL, which no request takes.
            await request.expectRefused(
                [WireOp(.dial, to: request.dial.source, from: from, payload: payload)], from: port)
            request.peer.send(WireOp(.dial, to: listener.address, from: from, payload: payload))
            let stream = try await listener.nextStream(deadline: .testDeadline)
            #expect(stream.takeDial()?.block == nil)
            guard case .notGranted = stream.pushSource() else {
                Issue.record("the node read a grant from \(payload.prefix(20))")
                break
            }
            stream.close()
            #expect(await request.peer.first(.fin2)?.destination == from)
        }
        large.meta?.removeLast()
        request.peer.send(
            WireOp(.dial, to: listener.address, from: Address(request.peer.host, 99), payload: large.bytes))
        let stream = try await listener.nextStream(deadline: .testDeadline)
        #expect(stream.takeDial()?.block == large, "a block of the maximum size is valid")
        stream.close()
        #expect(await request.peer.first(.fin2)?.destination.port == 99)
        try await request.expectServed()
        listener.close()
        try await victim.end()
    }

    @Test func `failed sources count against the grant until they are accepted`() async throws {
        let victim = try await Victim()
        let (request, other) = (try await victim.request(2), try await victim.request())
        for index in UInt32(0)..<1_000 {
            request.peer.send([request.push(from: 5_000 + index, index), request.op(.err, from: 5_000 + index)])
        }
        #expect(try await request.master.newsFailure()?.code == .protocolViolation)
        request.master.close()
        _ = await request.peer.opsUntilPong()
        try await other.expectServed()
        try await victim.end()
    }

    @Test func `a source that fails while the client closes it is still answered with FIN1 and FIN2`() async throws {
        let victim = try await Victim()
        let request = try await victim.request()
        request.peer.send(request.push(from: 20, 0))
        _ = await request.peer.opsUntilPong()
        let master = request.master
        let peer = try #require(master.link.peer)
        let failure = Op(
            header: OpHeader(.err, to: request.dial.source, from: Address(request.peer.host, 20)),
            payload: ByteBuffer(string: "broken"))
        // In one turn of the event loop, so that the failure arrives before FIN1 and FIN2 are sent.
        try await master.link.eventLoop.submit {
            master.close()
            try master.link.handler.value?.streams.take(failure, from: peer)
        }.get()
        let answers = await request.peer.opsUntilPong()
        #expect(answers.filter { $0.destination.port == 20 }.map(\.command) == [.fin1, .fin2])
        try await victim.end()
    }

    @Test func `a server that reports a wrong cookie for a dial without a cookie is dialled once`() async throws {
        let victim = try await Victim()
        let dialled = Task {
            try await victim.node.dial("push", DialRequest(maximumPushedSources: 2), deadline: .testDeadline)
        }
        let dial = try #require(await victim.peer.first(.dial))
        victim.peer.send(WireOp(.err, to: dial.source, from: dial.destination, text: PushCookies.wrongCookie))
        let error = await #expect(throws: AstraNetError.self) { _ = try await dialled.value }
        #expect(error?.code == .refused)
        #expect(await victim.peer.opsUntilPong().filter { $0.command == .dial } == [])
        try await victim.end()
    }

    // MARK: - A hostile client

    /// A node that serves requests of a raw peer.
    private struct Server {
        let node = Node.withoutTimeouts(.server)
        let peer: RawPeer
        let requests = EventQueue<AstraNet.MeshStream>()
        let listener: Listener
        let goodPeer = Node.withoutTimeouts(.client)
        private let echo: Listener

        init() async throws {
            let requests = requests
            listener = try node.bind("push") { stream in
                requests.append(stream)
                return .accepted
            }
            echo = try node.echo("echo")
            let address = try await node.listening()
            peer = try await RawPeer.connect(to: address)
            #expect(await peer.handshake(RawPeer.ourHandshake) == node.id)
            _ = await peer.opsUntilPong()
            try await goodPeer.join(address)
        }

        func request(from port: UInt32 = 5, sources: UInt16 = 2, window: UInt32 = 100) async throws
            -> AstraNet.MeshStream
        {
            let push = DialBlock.Push(nonce: 42, maximumSources: sources, window: window)
            peer.send(peer.op(.dial, to: listener.address, from: port, payload: DialBlock(push: push).bytes))
            #expect(await peer.first(.syn)?.destination.port == port)
            return try #require(await requests.next())
        }

        func op(_ command: Command, for stream: AstraNet.MeshStream, _ payload: [UInt8] = []) -> WireOp {
            peer.op(command, to: stream.localAddress, from: stream.remoteAddress.port, payload: payload)
        }

        func end() async throws {
            try await goodPeer.expectEcho("echo", count: 100_000)
            #expect(node.linkCount == 2)
            try await node.expectNothingLeft()
            await peer.close()
            echo.close()
            await goodPeer.shutdown()
            await node.shutdown()
        }
    }

    @Test func `a server keeps to the granted nonce, number and window`() async throws {
        let server = try await Server()
        let request = try await server.request(sources: 3, window: 7)
        #expect(request.pushWindow == 7)
        for index in UInt32(0)..<3 {
            let source = try request.pushed()
            let dial = try #require(await server.peer.first(.dial))
            #expect(dial.destination == request.remoteAddress && dial.source == source.localAddress)
            #expect(
                dial.block
                    == DialBlock(
                        source: DialBlock.Source(nonce: 42, streamPort: request.localPort, index: index)))
            try source.send(now: ByteBuffer(string: "0123456789"))
            #expect(await server.peer.first(.data)?.text == "0123456")
            source.close()
            #expect(await server.peer.opsUntilPong() == [], "the end waits for the rest")
            server.peer.send(server.op(.syn, for: source))
            #expect(await server.peer.first(.data)?.text == "789")
            #expect(await server.peer.first(.fin2)?.source == source.localAddress)
        }
        request.close()
        try await server.end()
    }

    @Test func `a repeated SYN and a SYN for an unknown stream change nothing`() async throws {
        let server = try await Server()
        let request = try await server.request(sources: 1)
        let (one, _) = (try request.pushed(), request.pushSource())
        #expect(await server.peer.first(.dial) != nil)
        for _ in 0..<3 { server.peer.send(server.op(.syn, for: one)) }
        server.peer.send(server.peer.op(.syn, to: Address(server.node.id, 77_777), from: 5))
        _ = await server.peer.opsUntilPong()
        // One acceptance allows one more source.
        #expect(request.pushAll().count == 1)
        one.close()
        request.close()
        server.peer.send(server.op(.fin1, for: request))
        server.peer.send(server.op(.fin2, for: request))
        await server.peer.close()
        #expect(server.requests.waiting.isEmpty)
        await server.goodPeer.shutdown()
        await server.node.shutdown()
    }

    @Test(arguments: [
        [Command.windowSize], [.rewind], [.fin2], [.data], [.ack], [.synAck], [.dial],
    ])
    func `ops before SYN do not accept a source`(commands: [Command]) async throws {
        let server = try await Server()
        let request = try await server.request(sources: 1)
        let source = try request.pushed()
        try source.send(now: ByteBuffer(repeating: 7, count: 1_000))
        _ = await server.peer.first(.data)
        for command in commands {
            let payload: [UInt8] = command == .windowSize ? [0, 1, 0, 0] : command == .rewind ? [0, 0, 0, 50] : [1]
            server.peer.send(server.op(command, for: source, payload))
        }
        // DATA may leave after the first PONG, so ask twice.
        let answers = await server.peer.opsUntilPong() + server.peer.opsUntilPong()
        let sent = answers.filter { $0.command == .data }.reduce(0) { $0 + $1.payload.count }
        // Returned credit may be used again.
        #expect(sent == (commands == [.rewind] ? 50 : 0))
        #expect(source.isUnaccepted)
        guard case .grantExhausted = request.pushSource() else {
            Issue.record("the source counts as accepted")
            return
        }
        source.abort("enough")
        try await eventually { source.withStorage { $0.state.isKept } }
        source.abort("enough")
        request.close()
        try await server.end()
    }

    @Test(arguments: [[Command.err], [.fin1, .fin2], [.forceClosed]])
    func `a client can decline a source with ERR, FIN1 and FIN2, or FORCE_CLOSED`(commands: [Command]) async throws {
        let server = try await Server()
        let request = try await server.request(sources: 1)
        for kind in 0..<3 {
            let source = try #require(request.pushAll().first)
            if kind == 1 { source.close() }
            if kind == 2 { source.fail("broken") }
            _ = await server.peer.opsUntilPong()
            server.peer.send(commands.map { server.op($0, for: source) })
            _ = await server.peer.opsUntilPong()
            #expect(!source.isUnaccepted && source.phase == .ended && !source.withStorage { $0.state.wasAccepted })
        }
        request.close()
        try await server.end()
    }

    @Test func `credit for bytes that were not sent fails only that source`() async throws {
        let server = try await Server()
        let request = try await server.request()
        let (broken, whole) = (try request.pushed(), try request.pushed())
        for _ in 0..<2 { #expect(await server.peer.first(.dial) != nil) }
        server.peer.send(server.op(.rewind, for: broken, [0, 0, 0, 1]))
        #expect(await server.peer.first(.err)?.source == broken.localAddress)
        #expect(await broken.failure()?.code == .protocolViolation)
        try whole.send(now: ByteBuffer(string: "whole"))
        whole.close()
        #expect(await server.peer.first(.data)?.text == "whole")
        server.peer.send(server.op(.syn, for: whole))
        request.close()
        try await server.end()
    }

    @Test func `the sources of a client that accepts none end with its link`() async throws {
        let server = try await Server()
        var sources: [AstraNet.MeshStream] = []
        for port in UInt32(5)..<25 {
            let request = try await server.request(from: port, sources: 10)
            sources += request.pushAll()
            for source in sources.suffix(4) { source.close() }
            for source in sources.suffix(2) { source.fail("broken") }
            request.close()
        }
        #expect(sources.count == 200)
        await server.peer.close()
        for source in sources {
            try await eventually { source.phase == .ended }
            #expect(!source.isUnaccepted)
        }
        try await server.node.expectNothingLeft()
        await server.goodPeer.shutdown()
        await server.node.shutdown()
    }

    // MARK: - A forged client behind a router

    /// A server with a link to a raw router, which forwards dials with forged source hosts.
    private func routed() async throws -> (Node, RawPeer, EventQueue<AstraNet.MeshStream>, Address) {
        let node = Node.withoutTimeouts(.server)
        let requests = EventQueue<AstraNet.MeshStream>()
        let listener = try node.bind("push") { stream in
            requests.append(stream)
            return .accepted
        }
        let router = try await RawPeer.connect(to: try await node.listening())
        #expect(await router.handshake() == node.id)
        _ = await router.opsUntilPong()
        return (node, router, requests, listener.address)
    }

    @Test func `a server pushes only to clients that return the cookie of their host`() async throws {
        let (node, router, requests, address) = try await routed()
        let push = DialBlock.Push(nonce: 1, maximumSources: 2, window: 100)
        let other = node.core.cookies.make(for: .random())
        for forge in [nil, UInt64(0), UInt64.max, other] {
            let client = Address(.random(), 7)
            // The dial has no cookie: the server sends one to the claimed host.
            router.send(WireOp(.dial, to: address, from: client, payload: DialBlock(push: push).bytes))
            let syn = try #require(await router.first(.syn))
            let cookie = try #require(syn.block?.cookie)
            #expect(syn.destination == client && cookie == node.core.cookies.make(for: client.host))
            let payload = forge.map { DialBlock(cookie: $0).bytes } ?? []
            router.send(WireOp(.ack, to: address, from: client, payload: payload))
            let request = try #require(await requests.next())
            guard case .notGranted = request.pushSource() else {
                Issue.record("the server pushes to a client with the cookie \(String(describing: forge))")
                return
            }
            #expect(request.pushWindow == nil)
            request.close()
            router.send([WireOp(.fin1, to: address, from: client), WireOp(.fin2, to: address, from: client)])
        }
        // The right cookie.
        let client = Address(.random(), 7)
        router.send(WireOp(.dial, to: address, from: client, payload: DialBlock(push: push).bytes))
        let block = try #require(await router.first(.syn)).block
        router.send(WireOp(.ack, to: address, from: client, payload: try #require(block).bytes))
        let request = try #require(await requests.next())
        try request.pushWhole("source")
        #expect(await router.first(.dial)?.destination == client)
        request.close()
        #expect(await router.first(.fin2) != nil)
        await router.close()
        try await node.expectNothingLeft()
        await node.shutdown()
    }

    @Test func `a dial with a forged cookie is refused, and its bytes are dropped`() async throws {
        let (node, router, requests, address) = try await routed()
        let push = DialBlock.Push(nonce: 1, maximumSources: 2, window: 100)
        let other = node.core.cookies.make(for: .random())
        for forged in [UInt64(0), .max, other] {
            let client = Address(.random(), 7)
            router.send([
                WireOp(.dial, to: address, from: client, payload: DialBlock(push: push, cookie: forged).bytes),
                WireOp(.data, to: address, from: client, payload: [1]),
            ])
            let answers = await router.opsUntilPong()
            #expect(answers.map(\.command) == [.err])
            #expect(answers.first?.text == PushCookies.wrongCookie && answers.first?.destination == client)
        }
        #expect(requests.waiting.isEmpty)
        try await node.expectNothingLeft()
        await router.close()
        await node.shutdown()
    }

    @Test func `a client that sends no dial block gets no cookie and no ERR`() async throws {
        let (node, router, requests, address) = try await routed()
        let client = Address(.random(), 7)
        router.send(WireOp(.dial, to: address, from: client))
        #expect(await router.first(.syn) == WireOp(.syn, to: client, from: address))
        router.send(WireOp(.dial, to: Address(address.host, 77_777), from: client))
        #expect(await router.opsUntilPong() == [])
        router.send(WireOp(.ack, to: address, from: client, payload: DialBlock(cookie: 1).bytes))
        let request = try #require(await requests.next())
        guard case .notGranted = request.pushSource() else {
            Issue.record("the server pushes")
            return
        }
        request.close()
        _ = await router.first(.fin2)
        await router.close()
        try await node.expectNothingLeft()
        await node.shutdown()
    }
}
