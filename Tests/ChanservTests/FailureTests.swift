import Chanserv
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Failures of requests and sources: each one reaches the client as its own error and never looks like a normal end.
@Suite(.timeLimit(.minutes(5))) struct FailureTests {
    @Test(arguments: Delivery.allCases)
    func `a request fails with the message of the error that its source function throws`(
        over delivery: Delivery
    ) async throws {
        let journal = Journal()
        var configuration = Server.Configuration()
        configuration.onError = { journal.add("\($0)") }
        let pair = try await Pair(over: delivery, configuration) { _ in throw TestError("no such table") }
        let sources = try await pair.post()
        let error = await failure { try await sources.collect() }
        #expect(error?.code == .sourceFailed)
        #expect(error?.message == "no such table")
        #expect(await pair.idle() == 0)
        #expect(journal.all == ["source failed: no such table"])
        #expect(pair.service.counters.failures == 1)
    }

    @Test(arguments: Delivery.allCases)
    func `sources announced before a request fails arrive whole`(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        feed.yield(Source(header: "good", frames: ["a", "b"]))
        feed.finish(throwing: TestError("half way"))
        let pair = try await Pair(over: delivery) { _ in stream }
        var sources = try await pair.post().makeAsyncIterator()
        let source = try await sources.next()
        let error = await failure { try await sources.next() }
        #expect(error?.message == "half way")
        let frames = try await source?.frames.collect()
        #expect(frames?.count == 2)
        let end = try await sources.next()
        #expect(end == nil)
    }

    @Test(arguments: Delivery.allCases)
    func `frames sent before a source fails arrive before its error`(over delivery: Delivery) async throws {
        let journal = Journal()
        var configuration = Server.Configuration()
        configuration.onChanError = { journal.add("server: \($0)") }
        var clientConfiguration = Client.Configuration()
        clientConfiguration.onError = { journal.add("client: \($0)") }
        let pair = try await Pair(over: delivery, configuration, client: clientConfiguration) { _ in
            SourceList([
                Source(
                    header: "",
                    producer: TestProducer(journal) { batch in
                        try batch.append("one")
                        throw TestError("disk full")
                    })
            ])
        }
        var frames = try await pair.post().first().frames.makeAsyncIterator()
        let first = try await frames.next()
        #expect(first?.string == "one")
        let error = await failure { try await frames.next() }
        #expect(error?.code == .sourceFailed && error?.message == "disk full")
        #expect(await pair.idle() == 0)
        #expect(journal.count("source closed") == 1)
        #expect(journal.count("server: source failed: disk full") == 1)
        #expect(journal.count("client: source failed: disk full") == 1)
        #expect(pair.service.counters.failures == 1)
    }

    @Test(arguments: Delivery.allCases)
    func `a lost connection is an error and not a normal end`(over delivery: Delivery) async throws {
        let journal = Journal()
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        feed.yield(Source(header: "", producer: TestProducer.silent(journal)))
        let pair = try await Pair(over: delivery) { _ in stream }
        var sources = try await pair.post().makeAsyncIterator()
        let source = try #require(try await sources.next())
        try await journal.wait(for: "source polled")
        pair.network.breakConnections()
        let ofRequest = await failure { try await sources.next() }
        #expect(ofRequest?.code == .connectionLost)
        let ofSource = await failure { try await source.frames.collect() }
        #expect(ofSource?.code == .connectionLost)
        #expect(await pair.idle() == 0)
        #expect(journal.count("source closed") == 1)
        #expect(pair.service.counters.failures == 0)
    }

    @Test func `a request for a name that is not offered fails as not found`() async throws {
        var configuration = Client.Configuration()
        configuration.dialTimeout = .milliseconds(20)
        let client = Client(multiplexer: InMemoryMultiplexer(), configuration: configuration)
        let error = await failure { try await client.lookupAndPost("absent", body: "") }
        #expect(error?.code == .notFound)
    }

    @Test(arguments: Delivery.allCases)
    func `serving a name that is already bound throws address in use`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in SourceList([]) }
        #expect { try Server(multiplexer: pair.network.server).serve("svc") { _ in SourceList([]) } } throws: {
            ($0 as? ChanservError)?.code == .addressInUse
        }
    }

    @Test func `a body above the size limit is refused before the dial`() async throws {
        let client = Client(multiplexer: InMemoryMultiplexer())
        let body = ByteBuffer(repeating: 0, count: FrameBatch.maxFrameSize + 1)
        let error = await failure { try await client.lookupAndPost("absent", body: body) }
        #expect(error?.code == .wrongFrameSize)
    }

    // MARK: Peers that violate the protocol

    /// Dials the service and writes `bytes` in place of a request.
    private func send(_ bytes: [UInt8], to pair: Pair, close: Bool = false) async throws -> any Connection {
        let connection = try await pair.network.client.dial("svc", deadline: .testDeadline)
        try await connection.write(ByteBuffer(bytes: bytes), deadline: nil)
        if close { connection.close() }
        return connection
    }

    @Test(arguments: Delivery.allCases)
    func `a request that claims a frame above the limit is refused and does not count as a failure`(
        over delivery: Delivery
    ) async throws {
        let pair = try await Pair(over: delivery) { _ in SourceList([]) }
        let connection = try await send([1, 0, 0x40, 6, 0, 0, 0, 0], to: pair)
        let error = await failure {
            do { return try await connection.read(deadline: nil) } catch { throw ChanservError(error, while: "") }
        }
        #expect(error?.code == .sourceFailed)
        #expect(error?.message.hasPrefix("wrong frame size") == true)
        connection.close()
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a truncated request releases all its resources`(over delivery: Delivery) async throws {
        let journal = Journal()
        var configuration = Server.Configuration()
        configuration.onError = { journal.add("\($0.code)") }
        let pair = try await Pair(over: delivery, configuration) { _ in SourceList([]) }
        _ = try await send([5, 0, 0, 0, 0, 0, 0, 0, 1], to: pair, close: true)
        _ = try await pair.post().collect()
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.requestsTotal == 2)
        #expect(pair.service.counters.failures == 0)
        try await pair.network.expectNothingLeft()
    }

    /// Keeps the networks alive: frames are read after ``answer(_:source:over:)`` has returned.
    private let networks = NIOLockedValueBox<[TestNetwork]>([])

    /// Answers one request with `bytes`. If `source` is given, it answers one dial of the name `s` with these bytes.
    private func answer(
        _ bytes: [UInt8], source: [UInt8]? = nil, over delivery: Delivery
    ) async throws -> [ReceivedSource] {
        let network = try await TestNetwork.make(delivery)
        networks.withLockedValue { $0.append(network) }
        let listener = try network.server.listen("svc")
        let sourceListener = try network.server.listen("s")
        async let served: Void = {
            let master = try await listener.accept()
            try await master.write(ByteBuffer(bytes: bytes), deadline: nil)
            master.close()
            if let source {
                let connection = try await sourceListener.accept()
                try await connection.write(ByteBuffer(bytes: source), deadline: nil)
                connection.close()
            }
        }()
        var configuration = Client.Configuration()
        configuration.dialTimeout = .milliseconds(100)
        let result: Result<[ReceivedSource], any Error>
        do {
            result = .success(
                try await Client(multiplexer: network.client, configuration: configuration).lookupAndPost(
                    "svc", body: ""
                )
                .collect())
        } catch {
            result = .failure(error)
        }
        try await served
        return try result.get()
    }

    private static let announcement: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, UInt8(ascii: "s")]

    @Test(arguments: [Delivery.memory, .named])
    func `invalid announcements fail with the matching error code`(over delivery: Delivery) async throws {
        let length: (Int) -> [UInt8] = { size in withUnsafeBytes(of: UInt64(size).littleEndian) { Array($0) } }
        for (bytes, code) in [
            (length(104_857_601), ChanservError.Code.wrongFrameSize),
            (length(3), .truncatedFrame),
            (length(0), .truncatedFrame),
            (length(0) + length(0), .wrongAnnouncement),
            (length(0) + length(2) + [0xff, 0xfe], .wrongAnnouncement),
            (length(0) + length(5000) + [UInt8](repeating: 65, count: 5000), .wrongAnnouncement),
        ] {
            let error = await failure { try await answer(bytes, over: delivery) }
            #expect(error?.code == code, "\(bytes.prefix(20))")
        }
    }

    @Test(arguments: [Delivery.memory, .named])
    func `invalid frames fail with the matching error code`(over delivery: Delivery) async throws {
        let length: (Int) -> [UInt8] = { size in withUnsafeBytes(of: UInt64(size).littleEndian) { Array($0) } }
        for (bytes, code) in [
            (length(104_857_601) + [1], ChanservError.Code.wrongFrameSize),
            (length(.max) + [1], .wrongFrameSize),
            (length(10) + [1], .truncatedFrame),
            (length(20) + Array("lz4!".utf8) + length(209_715_200) + length(0), .wrongUncompressedFrameSize),
            (length(20) + Array("lz4!".utf8) + length(100) + length(.max), .corruptCompression),
        ] {
            let sources = try await answer(Self.announcement, source: length(1) + [7] + bytes, over: delivery)
            var frames = try #require(sources.first).frames.makeAsyncIterator()
            let first = try await frames.next()
            #expect(first?.array == [7])
            let error = await failure { try await frames.next() }
            #expect(error?.code == code)
            let end = try await frames.next()
            #expect(end == nil)
        }
    }

    @Test(arguments: [Delivery.memory, .named])
    func `a named source that cannot be dialled fails as not found`(over delivery: Delivery) async throws {
        let journal = Journal()
        let network = try await TestNetwork.make(delivery)
        let listener = try network.server.listen("svc")
        var configuration = Client.Configuration()
        configuration.dialTimeout = .milliseconds(50)
        configuration.onError = { journal.add("\($0.code)") }
        async let posted = Client(multiplexer: network.client, configuration: configuration).lookupAndPost(
            "svc", body: "")
        let master = try await listener.accept()
        try await master.write(ByteBuffer(bytes: Self.announcement), deadline: nil)
        master.close()
        let source = try await posted.first()
        let error = await failure { try await source.frames.collect() }
        #expect(error?.code == .notFound)
        #expect(journal.all == ["not found"])
    }
}
