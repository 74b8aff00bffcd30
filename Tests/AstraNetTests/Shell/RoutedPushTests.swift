import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// Pushed sources through routers (docs/protocol.md §6).
@Suite(.timeLimit(.minutes(5))) struct RoutedPushTests {
    /// A client and a server that reach each other only through a router of this library.
    private struct Mesh {
        let router = Node.withoutTimeouts(.router)
        let server = Node.withoutTimeouts(.server)
        let client = Node.withoutTimeouts(.server)
        let address: SocketAddress
        let requests = EventQueue<AstraNet.MeshStream>()
        let listener: Listener

        init() async throws {
            address = try await router.listening()
            let requests = requests
            listener = try server.bind("push") { stream in
                requests.append(stream)
                return .accepted
            }
            try await server.join(address)
            try await client.join(address)
            let client = client
            try await eventually { client.services.contains { $0.isRelayed } }
        }

        var cookie: UInt64? { client.core.cookies.cookie(of: server.id) }

        func request(_ sources: Int = 2) async throws -> (client: AstraNet.MeshStream, server: AstraNet.MeshStream) {
            let request = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: sources)
            let dialled = try await client.dial("push", request, deadline: .testDeadline)
            return (dialled, try #require(await requests.next()))
        }

        /// Checks that a request gets its source.
        ///
        /// - Parameter isEager: whether the dial carries a cookie and the body follows it at once.
        func expectServed(isEager: Bool) async throws {
            let (client, server) = try await request()
            #expect(server.withStorage { $0.active?.state.dialContext?.block.cookie != nil } == isEager)
            client.finish()
            #expect(try await server.readText() == "body")
            try server.pushWhole("source")
            server.close()
            #expect(try await client.nextPushed().readText() == "source")
            try await client.expectFinished()
            client.close()
        }

        func end() async throws {
            for node in [client, server] { try await node.expectNothingLeft() }
            #expect(requests.waiting.isEmpty)
            let router = router
            try await eventually { router.core.buffered.held == 0 }
            listener.close()
            for node in [client, server, router] { await node.shutdown() }
        }
    }

    @Test func `the first request learns a cookie, and the next ones send their body at once`() async throws {
        let mesh = try await Mesh()
        #expect(mesh.cookie == nil)
        try await mesh.expectServed(isEager: false)
        #expect(mesh.cookie == mesh.server.core.cookies.make(for: mesh.client.id))
        for _ in 0..<3 { try await mesh.expectServed(isEager: true) }
        try await mesh.end()
    }

    @Test func `a request without a grant neither learns nor sends a cookie`() async throws {
        let mesh = try await Mesh()
        for _ in 0..<2 {
            let (client, server) = try await mesh.request(0)
            #expect(mesh.cookie == nil)
            guard case .notGranted = server.pushSource() else {
                Issue.record("the server pushes")
                return
            }
            client.close()
            server.close()
        }
        try await mesh.end()
    }

    @Test func `deadline and tags reach a server behind a router`() async throws {
        let mesh = try await Mesh()
        for sources in [0, 2, 2] {
            var request = DialRequest(maximumPushedSources: sources)
            request.texts = .of(meta: "m", bucket: "b")
            request.deadline = .testDeadline
            let dialled = try await mesh.client.dial("push", request, deadline: .testDeadline)
            let served = try #require(await mesh.requests.next())
            let block = try #require(served.takeDial()?.block)
            #expect(block.meta == "m" && block.bucket == "b" && block.deadlineMilliseconds != nil)
            dialled.close()
            served.close()
        }
        try await mesh.end()
    }

    @Test func `a server that refuses an outdated cookie is dialled again and gets the body once`() async throws {
        let mesh = try await Mesh()
        try await mesh.expectServed(isEager: false)
        let right = try #require(mesh.cookie)
        mesh.client.core.cookies.keep(right &+ 1, of: mesh.server.id)
        let (client, server) = try await mesh.request()
        #expect(mesh.cookie == right)
        client.finish()
        #expect(try await server.readText() == "body")
        try server.pushWhole("source")
        #expect(try await client.nextPushed().readText() == "source")
        client.close()
        server.close()
        #expect(mesh.requests.waiting.isEmpty, "the request was posted once")
        try await mesh.expectServed(isEager: true)
        try await mesh.end()
    }

    @Test func `a non-blocking dial forgets a wrong cookie too`() async throws {
        let mesh = try await Mesh()
        mesh.client.core.cookies.keep(1, of: mesh.server.id)
        let recorder = ChangeRecorder()
        let request = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: 2)
        let stream = try #require(try mesh.client.dialNow("push", request, delegate: recorder))
        _ = await recorder.changes.next()
        guard case .failed(let error) = stream.takeReceived() else {
            Issue.record("the dial was not refused")
            return
        }
        #expect(error.code == .refused && error.message == PushCookies.wrongCookie)
        stream.close()
        #expect(mesh.cookie == nil)
        try await mesh.expectServed(isEager: false)
        try await mesh.end()
    }

    @Test func `a server that always refuses the cookie is dialled twice`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let client = Node.withoutTimeouts(.server)
        try await client.join(address)
        let peer = try await RawPeer.connect(to: address)
        #expect(await peer.handshake(RawPeer.ourHandshake) == router.id)
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "push"))
        try await eventually { client.services.contains { $0.isRelayed } }
        client.core.cookies.keep(1, of: peer.host)
        let dialled = Task {
            try await client.dial("push", DialRequest(maximumPushedSources: 2), deadline: .testDeadline)
        }
        for hasCookie in [true, false] {
            let dial = try #require(await peer.first(.dial))
            #expect((dial.block?.cookie != nil) == hasCookie)
            peer.send(WireOp(.err, to: dial.source, from: dial.destination, text: PushCookies.wrongCookie))
        }
        let error = await #expect(throws: AstraNetError.self) { _ = try await dialled.value }
        #expect(error?.code == .refused)
        #expect(await peer.opsUntilPong().filter { $0.command == .dial } == [])
        await peer.close()
        try await client.expectNothingLeft()
        await client.shutdown()
        await router.shutdown()
    }

    @Test func `sources of many sizes arrive complete through a router`() async throws {
        let mesh = try await Mesh()
        let (client, server) = try await mesh.request(3)
        let sizes = [0, 1, 16_384, 16_385, 65_536, 65_537, 1_000_000]
        let recorder = ChangeRecorder()
        server.setDelegate(recorder)
        async let serving: Void = {
            for size in sizes {
                let source = try await server.pushed(waitingFor: recorder)
                try source.send(now: ByteBuffer(repeating: UInt8(truncatingIfNeeded: size), count: size))
                source.close()
            }
            server.close()
        }()
        for size in sizes {
            let source = try await client.nextPushed()
            #expect(try await source.readAll() == ByteBuffer(repeating: UInt8(truncatingIfNeeded: size), count: size))
        }
        try await serving
        try await client.expectFinished()
        client.close()
        try await mesh.end()
    }

    @Test func `a request that the client closes through a router ends its offered sources`() async throws {
        let mesh = try await Mesh()
        for _ in 0..<2 {
            let (client, server) = try await mesh.request()
            let (taken, offered) = (try server.pushed(), try server.pushed())
            let source = try await client.nextPushed()
            client.close()
            for stream in [server, offered] {
                try await eventually { stream.phase == .ended }
            }
            try taken.send(now: ByteBuffer(string: "still open"))
            taken.close()
            #expect(try await source.readText() == "still open")
        }
        try await mesh.end()
    }

    @Test func `the loss of a server behind a router ends its sources`() async throws {
        let mesh = try await Mesh()
        let (client, server) = try await mesh.request()
        try server.pushWhole("whole")
        let open = try server.pushed()
        let whole = try await client.nextPushed()
        #expect(try await whole.readText() == "whole")
        let taken = try await client.nextPushed()
        await mesh.server.shutdown(grace: .zero)
        #expect(await taken.failure()?.code == .linkLost)
        #expect(try await client.newsFailure()?.code == .linkLost)
        #expect(open.phase == .ended)
        client.close()
        try await mesh.client.expectNothingLeft()
        for node in [mesh.client, mesh.router] { await node.shutdown() }
    }

    // MARK: - Go-like nodes

    @Test func `a Go-like server behind our router ignores the dial block and answers`() async throws {
        let router = Node.withoutTimeouts(.router)
        let address = try await router.listening()
        let client = Node.withoutTimeouts(.server)
        try await client.join(address)
        let go = try await GoLikePeer.join(address, behindRouter: true)
        let (_, streams) = go.bind("push")
        for _ in 0..<2 {
            var request = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: 2)
            request.texts = .of(meta: "m")
            let stream = try await client.dial("push", request, deadline: .testDeadline)
            let served = try #require(await streams.next())
            #expect(try await served.read(4) == Array("body".utf8))
            try await served.write([1, 2])
            served.close()
            guard case .bytes(let bytes) = try await stream.nextMasterEvent(deadline: .testDeadline) else {
                Issue.record("no bytes arrived")
                break
            }
            #expect(bytes == ByteBuffer(bytes: [1, 2]))
            try await stream.expectFinished()
            stream.close()
        }
        #expect(client.core.cookies.cookie(of: go.host) == nil)
        #expect(go.broken == [])
        try await client.expectNothingLeft()
        await go.close()
        await client.shutdown()
        await router.shutdown()
    }

    @Test func `a Go-like client behind our router is served without pushed sources`() async throws {
        let mesh = try await Mesh()
        let go = try await GoLikePeer.join(mesh.address, behindRouter: true)
        let stream = try #require(await go.dial("push"))
        let served = try #require(await mesh.requests.next())
        guard case .notGranted = served.pushSource() else {
            Issue.record("the server pushes")
            return
        }
        try served.send(now: ByteBuffer(string: "answer"))
        served.close()
        #expect(try await stream.read(100) == Array("answer".utf8))
        stream.close()
        #expect(go.broken == [])
        await go.close()
        try await mesh.end()
    }

    @Test func `a Go-like router forwards requests and pushed sources`() async throws {
        let router = try await GoLikeRouter()
        let (server, client) = (Node.withoutTimeouts(.server), Node.withoutTimeouts(.server))
        let requests = EventQueue<AstraNet.MeshStream>()
        _ = try server.bind("push") { stream in
            requests.append(stream)
            return .accepted
        }
        for node in [server, client] {
            try await node.join(host: "127.0.0.1", port: router.port, deadline: .testDeadline)
        }
        try await eventually { client.services.count == 1 }
        for index in 0..<2 {
            let request = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: 2)
            let master = try await client.dial("push", request, deadline: .testDeadline)
            let served = try #require(await requests.next())
            try served.pushWhole("source")
            served.close()
            #expect(try await master.nextPushed().readText() == "source")
            try await master.expectFinished()
            master.close()
            let dials = router.sent(to: server.id).filter { $0.command == .dial }
            #expect(dials.count == index + 1)
            #expect((dials.last?.block?.cookie != nil) == (index > 0))
        }
        #expect(router.broken == [])
        for node in [client, server] { try await node.expectNothingLeft() }
        for node in [client, server] { await node.shutdown() }
        try await router.close()
    }

    @Test func `a DIAL to a Go-like node on a direct link has no block`() async throws {
        let node = Node.withoutTimeouts(.client)
        let peer = try await RawPeer.connect(to: try await node.listening())
        #expect(await peer.handshake() == node.id)
        peer.send(WireOp(.service, to: .otherEnd, from: Address(peer.host, 9), text: "push"))
        _ = await peer.opsUntilPong()
        var request = DialRequest(first: ByteBuffer(string: "body"), maximumPushedSources: 2)
        request.texts = .of(meta: "m")
        request.deadline = .testDeadline
        async let dialled = node.dial("push", request, deadline: .testDeadline)
        let dial = try #require(await peer.first(.dial))
        #expect(dial == WireOp(.dial, to: Address(peer.host, 9), from: dial.source))
        #expect(await peer.opsUntilPong() == [], "the body waits for the SYN")
        // The node ignores a cookie of a Go-like peer on a direct link.
        peer.send(
            WireOp(.syn, to: dial.source, from: dial.destination, payload: DialBlock(cookie: 1).bytes))
        let stream = try await dialled
        let answers = await peer.opsUntilPong()
        #expect(answers.first == WireOp(.ack, to: dial.destination, from: dial.source))
        #expect(answers.dropFirst().map(\.text) == ["body"])
        #expect(node.core.cookies.cookie(of: peer.host) == nil)
        stream.close()
        try await node.expectNothingLeft()
        await peer.close()
        await node.shutdown()
    }

    // MARK: - Two links to one router

    /// A node with two links to one raw router, each on its own event loop, and a request over one of them.
    private struct Siblings {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let node: Node
        let server = Address(.random(), 9)
        let dial: WireOp
        let master: AstraNet.MeshStream
        /// The router's ends: `near` is the link of the request, `far` the other one.
        let near: RawPeer
        let far: RawPeer

        init() async throws {
            let node = Node(configuration: .withoutTimeouts(), group: group, logger: .silent)
            self.node = node
            let address = try await node.listening()
            let router = HostID.random()
            var peers: [RawPeer] = []
            for _ in 0..<2 {
                let peer = try await RawPeer.connect(to: address, host: router)
                #expect(await peer.handshake() == node.id)
                peer.send(WireOp(.service, to: .otherEnd, from: server, text: "push"))
                _ = await peer.opsUntilPong()
                peers.append(peer)
            }
            async let dialled = node.dial("push", DialRequest(maximumPushedSources: 2), deadline: .testDeadline)
            let dialledOver = EventQueue<(Int, WireOp)>()
            let asking = (0..<2).map { index in
                Task { [peers] in
                    if let op = await peers[index].first(.dial) { dialledOver.append((index, op)) }
                }
            }
            let (index, dial) = try #require(await dialledOver.next())
            for task in asking { task.cancel() }
            for task in asking { await task.value }
            self.dial = dial
            near = peers[index]
            far = peers[1 - index]
            near.send(
                WireOp(.syn, to: dial.source, from: dial.destination, payload: DialBlock(cookie: 1).bytes))
            master = try await dialled
            _ = await near.opsUntilPong()
        }

        func push(_ index: UInt32, from port: UInt32, nonce: UInt64? = nil) throws -> WireOp {
            let grant = try #require(dial.block?.push)
            let source = DialBlock.Source(nonce: nonce ?? grant.nonce, streamPort: server.port, index: index)
            return WireOp(
                .dial, to: dial.source, from: Address(server.host, port), payload: DialBlock(source: source).bytes)
        }

        func op(_ command: Command, from port: UInt32, _ text: String = "") -> WireOp {
            WireOp(command, to: dial.source, from: Address(server.host, port), text: text)
        }

        func end() async throws {
            master.close()
            try await node.expectNothingLeft()
            for peer in [near, far] { await peer.close() }
            await node.shutdown()
            try await group.shutdownGracefully()
        }
    }

    @Test func `a source that arrives over another link to the router reaches its request`() async throws {
        let siblings = try await Siblings()
        siblings.far.send([
            try siblings.push(0, from: 20), siblings.op(.data, from: 20, "source"), siblings.op(.fin1, from: 20),
            siblings.op(.fin2, from: 20),
        ])
        #expect(try await siblings.master.nextPushed().readText() == "source")
        // The SYN uses the link of the request.
        #expect(await siblings.near.first(.syn)?.destination == Address(siblings.server.host, 20))
        // The ops of the next source arrive over both links.
        siblings.near.send([try siblings.push(1, from: 21), siblings.op(.data, from: 21, "next")])
        let next = try await siblings.master.nextPushed()
        siblings.far.send(siblings.op(.data, from: 21, " part"))
        var received = ByteBuffer()
        #expect(try await next.receive(9, into: &received, deadline: .testDeadline) == 9)
        #expect(received == ByteBuffer(string: "next part"))
        next.close()
        try await siblings.end()
    }

    /// A router may lose the DIAL of a source on one link and forward the end of the request over the other.
    @Test(arguments: [1, 2] as [UInt32]) func `a request fails if fewer sources arrive than FIN2 says`(
        count: UInt32
    ) async throws {
        let siblings = try await Siblings()
        siblings.near.send([
            try siblings.push(0, from: 20), siblings.op(.data, from: 20, "source"), siblings.op(.fin1, from: 20),
            siblings.op(.fin2, from: 20), siblings.op(.fin1, from: siblings.server.port),
            WireOp(.fin2, to: siblings.dial.source, from: siblings.server, number: count),
        ])
        #expect(try await siblings.master.nextPushed().readText() == "source")
        switch try await siblings.master.nextMasterEvent(deadline: .testDeadline) {
        case .finished: #expect(count == 1)
        case .failed(let error): #expect(count == 2 && error.code == .linkLost)
        case let news: Issue.record("\(news)")
        }
        try await siblings.end()
    }

    @Test func `a source that arrives over another link after the end of its request is received`() async throws {
        let siblings = try await Siblings()
        siblings.near.send([
            siblings.op(.fin1, from: siblings.server.port),
            WireOp(.fin2, to: siblings.dial.source, from: siblings.server, number: 2),
        ])
        _ = await siblings.near.opsUntilPong()
        for (index, text) in ["first", "second"].enumerated() {
            let port = UInt32(20 + index)
            siblings.far.send([
                try siblings.push(UInt32(index), from: port), siblings.op(.data, from: port, text),
                siblings.op(.fin1, from: port), siblings.op(.fin2, from: port),
            ])
            #expect(try await siblings.master.nextPushed().readText() == text)
        }
        guard case .finished = try await siblings.master.nextMasterEvent(deadline: .testDeadline) else {
            Issue.record("the request has not ended")
            return
        }
        try await siblings.end()
    }

    @Test func `a source that no link of the node expects is refused once`() async throws {
        let siblings = try await Siblings()
        let stranger = Address(.random(), 20)
        for peer in [siblings.near, siblings.far] {
            var op = try siblings.push(0, from: 20)
            op.source = stranger
            peer.send(op)
            #expect(await peer.first(.err)?.destination == stranger)
        }
        // A wrong nonce, over the link that is not the link of the request.
        siblings.far.send(try siblings.push(0, from: 20, nonce: 0))
        #expect(await siblings.near.first(.err)?.destination == Address(siblings.server.host, 20))
        for peer in [siblings.near, siblings.far] { #expect(await peer.opsUntilPong() == []) }
        try await siblings.end()
    }
}
