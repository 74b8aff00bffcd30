import AstraNet
import Chanserv
import ChanservAstraNet
import Logging
import NIOCore
import Testing

/// chanserv between a node of this library and a Go-like peer.
@Suite(.timeLimit(.minutes(5))) struct GoInteropTests {
    private static let sizes = [0, 1, 12, 13, 65_535, 65_536, 65_537, 1 << 20]
    private static let frames = sizes.map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) } }
    private static let sources = [
        PlainSource(header: [], frames: frames),
        PlainSource(header: Array("small".utf8), frames: (0..<500).map { Array("frame \($0)".utf8) }),
        PlainSource(header: [0xFF, 0], frames: []),
    ]

    /// A node that answers requests to `service` with `sources`, after a source whose header is the body.
    private func serve(compression: Bool = false) throws -> (Node, VirtualService) {
        let node = Node.withoutTimeouts()
        var configuration = Server.Configuration.withoutTimeouts
        configuration.compression = compression
        let server = Server(multiplexer: AstraNetMultiplexer(node), configuration: configuration)
        let service = try server.serve("service") { request in
            SourceList(
                [Source(header: request.body, frames: [ByteBuffer]())]
                    + Self.sources.map { Source(header: $0.header, frames: $0.frames) })
        }
        return (node, service)
    }

    @Test func `a Go client reads all sources of our server`() async throws {
        let (node, service) = try serve()
        let go = try await GoLikePeer.join(try await node.listen(host: "127.0.0.1", port: 0))
        for body in [[], Array("request".utf8), [UInt8](repeating: 3, count: 200_000)] {
            let sources = try await go.post("service", body)
            #expect(sources == [PlainSource(header: body)] + Self.sources)
        }
        #expect(go.broken == [])
        service.stopAccepting()
        await go.close()
        await node.shutdown()
    }

    private struct Refused: Error {}

    /// Frames that fail after the first one.
    private struct Failing: AsyncSequence, Sendable {
        func makeAsyncIterator() -> Iterator { Iterator() }

        struct Iterator: AsyncIteratorProtocol {
            var isFirst = true

            mutating func next() async throws -> String? {
                guard isFirst else { throw Refused() }
                isFirst = false
                return "one"
            }
        }
    }

    @Test func `a Go client can tell a failed request and a failed source from complete ones`() async throws {
        let node = Node.withoutTimeouts()
        let server = Server(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        let refusing = try server.serve("refusing") { _ in throw Refused() }
        let failing = try server.serve("failing") { _ in SourceList([Source(header: "h", frames: Failing())]) }
        let go = try await GoLikePeer.join(try await node.listen(host: "127.0.0.1", port: 0))
        for name in ["refusing", "failing"] {
            await #expect(throws: GoLikeStream.CutFrame.self) { try await go.post(name, []) }
        }
        #expect(go.broken == [])
        for service in [refusing, failing] { service.stopAccepting() }
        await go.close()
        await node.shutdown()
    }

    @Test func `sources that a Go client has not dialled end with its link`() async throws {
        let (node, service) = try serve()
        let go = try await GoLikePeer.join(try await node.listen(host: "127.0.0.1", port: 0))
        let master = try #require(await go.dial("service"))
        try await master.writeFrame([])
        #expect(try await master.readFrames().count == 2 * (1 + Self.sources.count))
        master.close()
        #expect(service.counters.sourcesWaiting == 1 + Self.sources.count)
        await go.close()
        // The time for a client to dial is an hour here.
        try await eventually { service.counters.requestsOpen == 0 && service.counters.sourcesWaiting == 0 }
        service.stopAccepting()
        await node.shutdown()
    }

    /// Plain frames and frames that look like compressed ones.
    private static let trickyFrames =
        frames + [
            Array("lz4!".utf8), Array("lz4!12345678".utf8), Array("lz4!123456789".utf8),
            Array(String(repeating: "lz4! again ", count: 10_000).utf8),
        ]

    @Test(arguments: [true, false])
    func `a Go client decompresses the frames of our server`(compression: Bool) async throws {
        let node = Node.withoutTimeouts()
        var configuration = Server.Configuration.withoutTimeouts
        configuration.compression = compression
        let service = try Server(multiplexer: AstraNetMultiplexer(node), configuration: configuration)
            .serve("service") { _ in SourceList([Source(header: "h", frames: Self.trickyFrames)]) }
        let go = try await GoLikePeer.join(try await node.listen(host: "127.0.0.1", port: 0))
        let sources = try await go.post("service", [])
        // As the Go client does: a frame of more than 12 bytes that begins with the mark is compressed.
        let unpacked = try sources.first?.frames.map { frame -> [UInt8] in
            guard frame.count > 12, frame.starts(with: Array("lz4!".utf8)) else { return frame }
            return Array(try LZ4Block.decompress(ByteBuffer(bytes: frame)).readableBytesView)
        }
        #expect(unpacked == Self.trickyFrames)
        #expect(go.broken == [])
        service.stopAccepting()
        await go.close()
        await node.shutdown()
    }

    @Test func `our client decompresses the frames of a Go server`() async throws {
        let packed = Self.trickyFrames.map { $0.count > 12 ? Self.literalBlock($0) : $0 }
        let (node, listener, go) = try await joined()
        let serving = Task { try await go.serve("service") { _ in [PlainSource(frames: packed)] } }
        let client = Client(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        let sources = try await Self.read(try await client.lookupAndPost("service", body: ""))
        #expect(sources == [PlainSource(frames: Self.trickyFrames)])
        await node.shutdown()
        try await serving.value
        try await listener.close()
    }

    /// A compressed frame made by hand: `lz4!`, the size, and a valid LZ4 block that consists of one run of literals.
    private static func literalBlock(_ bytes: [UInt8]) -> [UInt8] {
        var block: [UInt8] = [UInt8(min(bytes.count, 15)) << 4]
        if bytes.count >= 15 {
            var rest = bytes.count - 15
            while rest >= 255 {
                block.append(255)
                rest -= 255
            }
            block.append(UInt8(rest))
        }
        return Array("lz4!".utf8) + (0..<8).map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) } + block + bytes
    }

    /// A node of this library that has joined a Go-like node.
    private func joined() async throws -> (Node, RawListener, GoLikePeer) {
        let listener = try await RawPeer.listen()
        let node = Node.withoutTimeouts()
        async let joined = node.join(host: "127.0.0.1", port: listener.port, deadline: .testDeadline)
        let go = GoLikePeer.accept(try #require(await listener.peers.next()))
        #expect(try await joined == go.host)
        return (node, listener, go)
    }

    @Test func `concurrent requests of several Go clients are answered`() async throws {
        let (node, service) = try serve()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        try await withThrowingDiscardingTaskGroup { group in
            for _ in 0..<3 {
                group.addTask {
                    let go = try await GoLikePeer.join(address)
                    try await withThrowingDiscardingTaskGroup { requests in
                        for index: UInt8 in 0..<5 {
                            requests.addTask {
                                let sources = try await go.post("service", [index])
                                #expect(sources == [PlainSource(header: [index])] + Self.sources)
                            }
                        }
                    }
                    #expect(go.broken == [])
                    await go.close()
                }
            }
        }
        service.stopAccepting()
        await node.shutdown()
    }

    @Test func `our client reads all sources of a Go server`() async throws {
        let (node, listener, go) = try await joined()
        let serving = Task { try await go.serve("service") { [PlainSource(header: $0)] + Self.sources } }
        let client = Client(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        for body in [[], Array("request".utf8), [UInt8](repeating: 3, count: 200_000)] {
            let sources = try await Self.read(try await client.lookupAndPost("service", body: body))
            #expect(sources == [PlainSource(header: body)] + Self.sources)
        }
        #expect(go.broken == [])
        await node.shutdown()
        try await serving.value
        try await listener.close()
    }

    @Test func `a source that our client cancels stops the Go server`() async throws {
        let (node, listener, go) = try await joined()
        // Far more bytes than any window: the server ends only because the client stops it.
        let endless = PlainSource(frames: [[UInt8]](repeating: [UInt8](repeating: 1, count: 60_000), count: 10_000))
        let (_, requests) = go.bind("endless")
        let client = Client(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
        async let posted = client.lookupAndPost("endless", body: "go")
        let master = try #require(await requests.next())
        #expect(try await master.readFrame() == Array("go".utf8))
        let (_, streams) = go.bind("the source")
        try await master.writeFrame([])
        try await master.writeFrame(Array("the source".utf8))
        master.close()
        var answer = try await posted.makeAsyncIterator()
        let source = try #require(try await answer.next())
        let writing = Task {
            let stream = try #require(await streams.next())
            for frame in endless.frames { try await stream.writeFrame(frame) }
        }
        var frames = source.frames.makeAsyncIterator()
        #expect(try await frames.next()?.count == 60_000)
        source.cancel()
        await #expect(throws: GoLikeStream.StoppedByPeer.self) { try await writing.value }
        #expect(go.broken == [])
        await node.shutdown()
        try await listener.close()
    }

    /// An endless producer that records its `close`.
    private struct Endless: FrameProducer {
        let closed: EventQueue<Void>

        func produce(into batch: inout FrameBatch) async throws -> Bool {
            while !batch.isFull { try batch.append([UInt8](repeating: 1, count: 1_000)) }
            return true
        }

        func close() { closed.append(()) }
    }

    @Test(arguments: [true, false])
    func `a source that a Go client leaves is closed`(withItsLink: Bool) async throws {
        let closed = EventQueue<Void>()
        let node = Node.withoutTimeouts()
        let service = try Server(multiplexer: AstraNetMultiplexer(node), configuration: .withoutTimeouts)
            .serve("endless") { _ in
                SourceList([Source(header: "", producer: Endless(closed: closed))])
            }
        let go = try await GoLikePeer.join(try await node.listen(host: "127.0.0.1", port: 0))
        let master = try #require(await go.dial("endless"))
        try await master.writeFrame([])
        #expect(try await master.readFrame() == [])
        let name = try #require(try await master.readFrame())
        let source = try #require(await go.dial(String(decoding: name, as: UTF8.self)))
        #expect(try await source.readFrame()?.count == 1_000)
        if withItsLink {
            await go.close()
        } else {
            source.close()
        }
        #expect(await closed.next() != nil)
        #expect(go.broken == [])
        service.stopAccepting()
        await go.close()
        await node.shutdown()
    }

    @Test func `a Go client that leaves during an answer does not affect other clients`() async throws {
        let (node, service) = try serve()
        let address = try await node.listen(host: "127.0.0.1", port: 0)
        let leaving = try await GoLikePeer.join(address)
        let master = try #require(await leaving.dial("service"))
        try await master.writeFrame([1])
        #expect(try await master.readFrame() == [1])
        await leaving.close()
        let go = try await GoLikePeer.join(address)
        #expect(try await go.post("service", [2]) == [PlainSource(header: [2])] + Self.sources)
        #expect(go.broken == [])
        service.stopAccepting()
        await go.close()
        await node.shutdown()
    }

    /// Reads all sources of an answer concurrently.
    static func read(_ answer: ReceivedSources) async throws -> [PlainSource] {
        try await withThrowingTaskGroup(of: (Int, [[UInt8]]).self) { group in
            var sources: [PlainSource] = []
            for try await source in answer {
                let index = sources.count
                sources.append(PlainSource(header: Array(source.header.readableBytesView)))
                group.addTask {
                    var frames: [[UInt8]] = []
                    for try await frame in source.frames { frames.append(frame.array) }
                    return (index, frames)
                }
            }
            for try await (index, frames) in group { sources[index].frames = frames }
            return sources
        }
    }
}
