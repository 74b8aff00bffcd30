import Chanserv
import NIOCore
import Testing

@Suite(.timeLimit(.minutes(5))) struct EndToEndTests {
    @Test(arguments: [false, true])
    func `payloads of every kind and size arrive unchanged`(compression: Bool) async throws {
        var configuration = Server.Configuration()
        configuration.compression = compression
        let pair = try await Pair(configuration) { request in
            let kind = try #require(Payloads.Kind(rawValue: String(buffer: request.body)))
            return SourceList([Source(header: request.body, frames: Payloads.sizes.map { Payloads.make(kind, $0) })])
        }
        for kind in Payloads.Kind.allCases {
            let source = try await pair.post(kind.rawValue).first()
            #expect(String(buffer: source.header) == kind.rawValue)
            let frames = try await source.frames.collect()
            #expect(frames == Payloads.sizes.map { Payloads.make(kind, $0) })
        }
        #expect(await pair.idle() == 0)
        let counters = pair.service.counters
        #expect(counters.requestsTotal == 4 && counters.sourcesTotal == 4 && counters.failures == 0)
        #expect(counters.requestsOpen == 0 && counters.sourcesOpen == 0 && counters.sourcesWaiting == 0)
        #expect(counters.frames == 4 * Payloads.sizes.count)
        #expect(pair.network.names == ["svc"])
    }

    /// The lz4 mark has no meaning on a master stream: a peer would take a compressed block for the payload
    /// (docs/protocol.md §5).
    @Test(arguments: Payloads.Kind.allCases)
    func `bodies and headers are never compressed`(kind: Payloads.Kind) async throws {
        let payload = Payloads.make(kind, 5_000)
        var configuration = Server.Configuration()
        configuration.compression = true
        let pair = try await Pair(configuration) { request in
            #expect(Array(request.body.readableBytesView) == payload)
            return SourceList([Source(header: request.body, frames: [[UInt8]]())])
        }
        let source = try await pair.post(payload).first()
        #expect(Array(source.header.readableBytesView) == payload)
        #expect(try await source.frames.collect().isEmpty)
    }

    @Test(arguments: Delivery.allCases)
    func `a request has its body, its vAddr and the addresses of its connection`(over delivery: Delivery) async throws {
        let network = delivery == .memory ? "memory" : "astranet"
        let pair = try await Pair(over: delivery) { request in
            #expect(request.meta.remoteNetwork == network && request.meta.localNetwork == network)
            #expect(request.meta.remoteAddress != request.meta.localAddress)
            return SourceList([
                Source(header: request.meta.remoteAddress, frames: [request.vAddr, String(buffer: request.body)])
            ])
        }
        let source = try await pair.post("hello", tags: [.bucket: "b", .meta: "m"]).first()
        #expect(source.meta.localAddress == String(buffer: source.header))
        let frames = try await source.frames.collect()
        #expect(frames == [Array("svc".utf8), Array("hello".utf8)])
    }

    @Test(arguments: Delivery.allCases)
    func `a request without sources ends without an error`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in SourceList([]) }
        let sources = try await pair.post().collect()
        #expect(sources.isEmpty)
    }

    @Test(arguments: Delivery.allCases)
    func `sources arrive in order, and a source may have no frames`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in
            SourceList((0..<500).map { Source(header: "\($0)", frames: [[UInt8]](repeating: [1], count: $0 % 3)) })
        }
        var index = 0
        for try await source in try await pair.post() {
            #expect(String(buffer: source.header) == "\(index)")
            let frames = try await source.frames.collect()
            #expect(frames.count == index % 3)
            index += 1
        }
        #expect(index == 500)
    }

    @Test(arguments: Delivery.allCases)
    func `frames of an async sequence arrive as it yields them`(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<String, any Error>.makeStream()
        let pair = try await Pair(over: delivery) { _ in SourceList([Source(header: "", frames: stream)]) }
        let source = try await pair.post().first()
        var iterator = source.frames.makeAsyncIterator()
        for index in 0..<20 {
            feed.yield("frame \(index)")
            let frame = try await iterator.next()
            #expect(frame?.string == "frame \(index)")
        }
        feed.finish(throwing: TestError("that was all"))
        let error = await failure { try await iterator.next() }
        #expect(error?.code == .sourceFailed && error?.message == "that was all")
        let after = try await iterator.next()
        #expect(after == nil)
    }

    @Test(arguments: Delivery.allCases)
    func `sources arrive as the source function yields them`(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        let pair = try await Pair(over: delivery) { _ in stream }
        var sources = try await pair.post().makeAsyncIterator()
        for index in 0..<20 {
            feed.yield(Source(header: "\(index)", frames: ["x"]))
            let source = try await sources.next()
            #expect(source.map { String(buffer: $0.header) } == "\(index)")
            let count = try await source?.frames.collect().count
            #expect(count == 1)
        }
        feed.finish()
        let end = try await sources.next()
        #expect(end == nil)
    }

    @Test func `a frame larger than the window arrives whole`() async throws {
        let payload = Payloads.make(.random, 1 << 20)
        let pair = try await Pair(window: 1000) { _ in
            SourceList([Source(header: payload, frames: [payload, payload])])
        }
        let source = try await pair.post(payload).first()
        #expect(Array(source.header.readableBytesView) == payload)
        let frames = try await source.frames.collect()
        #expect(frames == [payload, payload])
    }

    @Test(arguments: Delivery.allCases)
    func `nextBatch returns at most frameBuffer frames`(over delivery: Delivery) async throws {
        var configuration = Client.Configuration()
        configuration.frameBuffer = 10
        let pair = try await Pair(over: delivery, client: configuration) { _ in
            SourceList([Source(header: "", frames: (0..<95).map { "\($0)" })])
        }
        var frames = try await pair.post().first().frames.makeAsyncIterator()
        var all: [String] = []
        while true {
            let batch = try await frames.nextBatch()
            if batch.isEmpty { break }
            #expect(batch.count <= 10)
            all += batch.map(\.string)
        }
        #expect(all == (0..<95).map { "\($0)" })
    }

    @Test(arguments: Delivery.allCases)
    func `one request delivers 10,000 sources`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in
            SourceList((0..<10_000).map { Source(header: "\($0)", frames: ["a\($0)", "b\($0)"]) })
        }
        var index = 0
        for try await source in try await pair.post() {
            let frames = try await source.frames.collect()
            #expect(frames == [Array("a\(index)".utf8), Array("b\(index)".utf8)])
            index += 1
        }
        #expect(index == 10_000)
        #expect(await pair.idle() == 0)
        #expect(pair.network.names == ["svc"])
    }

    @Test(arguments: Delivery.allCases)
    func `a hundred concurrent requests deliver a hundred sources each`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { request in
            let body = String(buffer: request.body)
            return SourceList((0..<100).map { Source(header: "\($0)", frames: ["\(body)/\($0)"]) })
        }
        let total = try await withThrowingTaskGroup(of: Int.self) { group in
            for request in 0..<100 {
                group.addTask {
                    var count = 0
                    for try await source in try await pair.post("\(request)") {
                        let frames = try await source.frames.collect()
                        #expect(frames == [Array("\(request)/\(count)".utf8)])
                        count += 1
                    }
                    return count
                }
            }
            return try await group.reduce(0, +)
        }
        #expect(total == 10_000)
        #expect(await pair.idle() == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a source that is not read blocks no other source`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in
            SourceList(
                (0..<3).map { index in
                    Source(header: "\(index)", frames: (0..<300).map { _ in Payloads.make(.random, 10_000) })
                })
        }
        let sources = try await pair.post().collect()
        #expect(sources.count == 3)
        for index in [1, 2] {
            let frames = try await sources[index].frames.collect()
            #expect(frames.count == 300)
        }
        let last = try await sources[0].frames.collect()
        #expect(last.count == 300)
    }
}
