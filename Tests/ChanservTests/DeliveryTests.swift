import Chanserv
import Foundation
import NIOCore
import Testing

/// Behaviour that does not depend on how sources are delivered.
@Suite(.timeLimit(.minutes(5))) struct DeliveryTests {
    private let journal = Journal()

    // MARK: Context of a request

    @Test(arguments: Delivery.allCases)
    func `deadline, tags and trace parent reach the source function`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { request in
            let context = request.context
            #expect(request.tags == [.meta: "about", .bucket: "b"])
            #expect(context.meta == "about" && context.bucket == "b" && context.traceParent == "00-trace-01")
            guard let deadline = context.deadline else { throw TestError("no deadline") }
            let left = ContinuousClock.now.duration(to: deadline)
            #expect(left > .seconds(3_000) && left <= .seconds(3_601))
            return SourceList([Source(header: "", frames: ["told"])])
        }
        let source = try await pair.post(
            tags: [.meta: "about", .bucket: "b"], deadline: .now + .seconds(3_600), traceParent: "00-trace-01"
        ).first()
        #expect(try await source.frames.collect() == [Array("told".utf8)])
    }

    @Test(arguments: Delivery.allCases)
    func `a request without tags and deadline has an empty context`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { request in
            let context = request.context
            #expect(request.tags.isEmpty && context.deadline == nil && context.traceParent == nil)
            return SourceList([])
        }
        #expect(try await pair.post().collect().isEmpty)
    }

    @Test(arguments: Delivery.allCases)
    func `at the deadline the server ends the request and its sources`(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        feed.yield(Source(header: "taken", producer: TestProducer.silent(journal)))
        let pair = try await Pair(over: delivery) { _ in stream }
        var sources = try await pair.post(deadline: .now + .milliseconds(300)).makeAsyncIterator()
        let taken = try #require(try await sources.next())
        let ofRequest = await failure { try await sources.next() }
        #expect(ofRequest?.message.contains("deadline") == true)
        let ofSource = await failure { try await taken.frames.collect() }
        #expect(ofSource?.message.contains("deadline") == true)
        try await journal.wait(for: "source closed")
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
    }

    @Test(arguments: [Delivery.pushed, .named])
    func `tags that exceed a dial block are refused before the request is sent`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in SourceList([]) }
        let error = await failure { try await pair.post(tags: [.meta: String(repeating: "x", count: 5_000)]) }
        #expect(error?.code == .limitReached)
        #expect(pair.service.counters.requestsTotal == 0)
    }

    // MARK: Sizes

    @Test(arguments: Delivery.allCases, [0, 1, 65_536, 1 << 20, 8 << 20])
    func `bodies, headers and frames of every size arrive whole`(over delivery: Delivery, size: Int) async throws {
        let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        let pair = try await Pair(over: delivery) { request in
            SourceList([Source(header: request.body, frames: [request.body, request.body])])
        }
        let source = try await pair.post(payload).first()
        #expect(source.header == ByteBuffer(bytes: payload))
        let frames = try await source.frames.collect()
        #expect(frames.count == 2 && frames.allSatisfy { $0 == payload })
        #expect(await pair.idle() == 0)
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func `large headers arrive in order`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in
            SourceList(
                (0..<40).map { Source(header: [UInt8](repeating: UInt8($0), count: 300_000 + $0), frames: ["\($0)"]) })
        }
        var index = 0
        for try await source in try await pair.post() {
            #expect(source.header == ByteBuffer(repeating: UInt8(index), count: 300_000 + index))
            #expect(try await source.frames.collect() == [Array("\(index)".utf8)])
            index += 1
        }
        #expect(index == 40)
        #expect(await pair.idle() == 0)
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func `large first frames arrive whole, and few are produced before the client takes their sources`(
        over delivery: Delivery
    ) async throws {
        let frame = ByteBuffer(bytes: Payloads.make(.random, 2 << 20))
        let pair = try await Pair(over: delivery) { [journal] _ in
            SourceList(
                (0..<60).map { index in
                    Source(
                        header: "\(index)",
                        producer: TestProducer(journal, "\(index)") { batch in
                            try batch.append(frame)
                            return false
                        })
                })
        }
        var sources = try await pair.post().makeAsyncIterator()
        var index = 0
        while let source = try await sources.next() {
            #expect(String(buffer: source.header) == "\(index)")
            let frames = try await source.frames.collect()
            #expect(frames.count == 1 && frames[0].count == frame.readableBytes)
            index += 1
            guard delivery == .pushed else { continue }
            // Sixteen sources may begin besides the one that reaches the limit of unaccepted bytes.
            #expect(journal.all.count { $0.hasSuffix("polled") } <= index + 18)
        }
        #expect(index == 60)
        #expect(await pair.idle() == 0)
    }

    // MARK: Backpressure

    @Test(arguments: Delivery.allCases)
    func `a source that is not accepted or not read blocks no other source`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { [journal] _ in
            SourceList([
                Source(header: "unread", producer: TestProducer.endless(journal, "unread")),
                Source(header: "read", frames: (0..<2_000).map { _ in [UInt8](repeating: 3, count: 5_000) }),
                Source(header: "not taken", producer: TestProducer.endless(journal, "not taken")),
            ])
        }
        let posted = try await pair.post()
        var sources = posted.makeAsyncIterator()
        let unread = try #require(try await sources.next())
        let read = try #require(try await sources.next())
        #expect(try await read.frames.collect().count == 2_000)
        // Ten megabytes were read. The other sources have sent at most their windows and a batch or two.
        #expect(pair.service.counters.bytes < 2_000 * 5_008 + 2 * 1_000_000)
        var frames = unread.frames.makeAsyncIterator()
        for _ in 0..<1_000 { #expect(try await frames.next()?.count == 1_000) }
        posted.cancel()
        try await journal.wait(for: "not taken closed")
        #expect(try await frames.next()?.count == 1_000)
        unread.cancel()
        try await journal.wait(for: "unread closed")
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func `the listing pauses while the client takes no source`(over delivery: Delivery) async throws {
        var configuration = Client.Configuration()
        configuration.sourceBuffer = 4
        let pair = try await Pair(over: delivery, client: configuration) { [journal] _ in
            AsyncThrowingStream<Source, any Error> {
                try Task.checkCancellation()
                let index = journal.all.count { $0 == "listed" }
                journal.add("listed")
                guard index < 100 else { return nil }
                return Source(header: "\(index)", frames: ["\(index)"])
            }
        }
        let posted = try await pair.post()
        // The sources that may be offered, and the next one, which waits. Named sources only need room on the stream.
        try await journal.wait(for: "listed", times: 5)
        if delivery == .pushed { #expect(pair.service.counters.sourcesTotal == 4) }
        var index = 0
        for try await source in posted {
            #expect(String(buffer: source.header) == "\(index)")
            #expect(try await source.frames.collect() == [Array("\(index)".utf8)])
            index += 1
            if delivery == .pushed { #expect(pair.service.counters.sourcesTotal <= index + 5) }
        }
        #expect(index == 100)
    }

    @Test(arguments: Delivery.allCases)
    func `at most maxUnacceptedSources sources wait for the client`(over delivery: Delivery) async throws {
        var configuration = Server.Configuration()
        configuration.maxUnacceptedSources = 3
        let pair = try await Pair(over: delivery, configuration) { _ in
            SourceList((0..<200).map { Source(header: "\($0)", frames: ["\($0)"]) })
        }
        var index = 0
        for try await source in try await pair.post() {
            #expect(pair.service.counters.sourcesWaiting <= 3)
            #expect(try await source.frames.collect() == [Array("\(index)".utf8)])
            index += 1
        }
        #expect(index == 200)
        #expect(await pair.idle() == 0)
    }

    @Test func `a pushed source that is not accepted in time fails alone`() async throws {
        var configuration = Server.Configuration()
        configuration.chanAcceptTimeout = .milliseconds(50)
        configuration.onChanError = { [journal] in journal.add("\($0.code)") }
        let pair = try await Pair(over: .pushed, configuration) { [journal] _ in
            SourceList([
                Source(header: "0", producer: TestProducer.silent(journal, "0")),
                Source(header: "1", producer: TestProducer.silent(journal, "1")),
            ])
        }
        var sources = try await pair.post().makeAsyncIterator()
        let taken = try #require(try await sources.next())
        try await journal.wait(for: "1 closed")
        #expect(journal.count("deadline exceeded") == 1 && journal.count("0 closed") == 0)
        let late = try #require(try await sources.next())
        #expect(String(buffer: late.header) == "1")
        let error = await failure { try await late.frames.collect() }
        #expect(error?.code == .sourceFailed && error?.message.contains("chan accept timeout") == true)
        taken.cancel()
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
    }

    // MARK: Ends

    @Test(arguments: Delivery.allCases)
    func `dropping an unread request releases all its sources`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { [journal] _ in
            SourceList((0..<20).map { _ in Source(header: "", producer: TestProducer.endless(journal)) })
        }
        do {
            let posted = try await pair.post()
            try await journal.wait(for: "source polled")
            withExtendedLifetime(posted) {}
        }
        #expect(await pair.idle() == 0)
        // Every added source was closed, and possibly one that was about to be added.
        let (closed, total) = (journal.count("source closed"), pair.service.counters.sourcesTotal)
        #expect((total...total + 1).contains(closed) || delivery != .pushed, "\(closed) of \(total)")
        #expect(pair.service.counters.failures == 0 && pair.network.names == ["svc"])
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func `cancelling at the server ends requests and sources with the reason`(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        feed.yield(Source(header: "", producer: TestProducer.silent(journal)))
        let pair = try await Pair(over: delivery) { _ in stream }
        var sources = try await pair.post().makeAsyncIterator()
        let source = try #require(try await sources.next())
        try await journal.wait(for: "source polled")
        pair.service.cancelAll(reason: "maintenance")
        let ofRequest = await failure { try await sources.next() }
        #expect(ofRequest?.code == .sourceFailed && ofRequest?.message == "maintenance")
        let ofSource = await failure { try await source.frames.collect() }
        #expect(ofSource?.code == .sourceFailed && ofSource?.message == "maintenance")
        #expect(await pair.idle() == 0)
        #expect(journal.count("source closed") == 1 && pair.service.counters.failures == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a source that outlives its request is drained with the service`(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        feed.yield(Source(header: "", producer: TestProducer.endless(journal)))
        feed.onTermination = { [journal] _ in journal.add("listing over") }
        let pair = try await Pair(over: delivery) { _ in stream }
        let source = try await pair.post().first()
        try await journal.wait(for: "listing over")
        var frames = source.frames.makeAsyncIterator()
        #expect(try await frames.next()?.count == 1_000)
        #expect(pair.service.counters.requestsOpen == 1)
        #expect(await pair.service.drain(until: .now, grace: .seconds(120)) == 0)
        #expect(journal.count("source closed") == 1)
        let error = await failure { while try await frames.next() != nil {} }
        #expect(error?.message.contains("stopped") == true)
    }

    @Test(arguments: Delivery.allCases)
    func `requests beyond maxOpenRequests are refused as busy until an open one ends`(
        over delivery: Delivery
    ) async throws {
        var configuration = Server.Configuration()
        configuration.maxOpenRequests = 2
        let pair = try await Pair(over: delivery, configuration) { [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal))])
        }
        let held = [try await pair.post().first(), try await pair.post().first()]
        try await journal.wait(for: "source polled", times: 2)
        let error = await failure { try await pair.post() }
        #expect(error?.code == .refused && error?.message.contains("2 open requests") == true)
        #expect(pair.service.counters.requestsRefused == 1 && pair.service.counters.requestsTotal == 2)
        held[0].cancel()
        try await journal.wait(for: "source closed")
        while pair.service.counters.requestsOpen > 1 { await Task.yield() }
        _ = try await pair.post().first()
        #expect(pair.service.counters.requestsTotal == 3)
        held[1].cancel()
    }

    @Test(arguments: Delivery.allCases)
    func `the error of a source arrives after its frames, with its message`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { _ in
            SourceList(
                (0..<30).map { index in
                    Source(
                        header: "\(index)",
                        producer: TestProducer { batch in
                            for _ in 0..<index { try batch.append([UInt8](repeating: 1, count: 2_000)) }
                            throw TestError("broken \(index)", countsAsFailure: false)
                        })
                })
        }
        // The client takes all sources first. Their errors wait until it reads them.
        let sources = try await pair.post().collect()
        #expect(sources.count == 30)
        for (index, source) in sources.enumerated() {
            var frames = source.frames.makeAsyncIterator()
            for _ in 0..<index { #expect(try await frames.next()?.count == 2_000) }
            let error = await failure { try await frames.next() }
            #expect(error?.code == .sourceFailed && error?.message == "broken \(index)")
        }
        #expect(await pair.idle() == 0)
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func `a lost connection ends requests and sources at both ends`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { [journal] request in
            if request.body.readableBytes > 0 { try await never() }
            return SourceList((0..<10).map { _ in Source(header: "", producer: TestProducer.endless(journal)) })
        }
        var sources = try await pair.post().makeAsyncIterator()
        let taken = try #require(try await sources.next())
        let waiting = try await pair.post("waits")
        try await journal.wait(for: "source polled")
        pair.network.breakConnections()
        let ofSource = await failure { try await taken.frames.collect() }
        #expect(ofSource?.code == .connectionLost)
        let ofRequest = await failure { try await waiting.collect() }
        #expect(ofRequest?.code == .connectionLost)
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
        guard delivery == .pushed else { return }
        // A source that is being polled when its request ends is closed after the poll, on another thread.
        let total = pair.service.counters.sourcesTotal
        try await journal.wait(for: "source closed", times: Int(total))
        #expect(journal.count("source closed") == Int(total))
    }

    @Test(arguments: Delivery.allCases)
    func `cancelling at any point leaves nothing behind`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { request in
            let kind = request.body.readableBytes
            return SourceList(
                (0..<(kind % 7)).map { index in
                    Source(
                        header: [UInt8](repeating: 1, count: index * 7_000),
                        frames: (0..<(kind % 5)).map { _ in [UInt8](repeating: 2, count: kind * 500) })
                })
        }
        let wanted = ProcessInfo.processInfo.environment["CHANSERV_TEST_CANCELS"].flatMap(Int.init) ?? 400
        let rounds = wanted / 4
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<4 {
                group.addTask {
                    var random = Random(seed: UInt64(worker + 1))
                    for _ in 0..<rounds { try await Self.postAndLeave(pair, &random) }
                }
            }
            try await group.waitForAll()
        }
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0 && pair.service.counters.requestsTotal == rounds * 4)
        #expect(pair.service.counters.sourcesOpen == 0 && pair.service.counters.sourcesWaiting == 0)
        #expect(pair.network.names == ["svc"])
        try await pair.network.expectNothingLeft()
    }

    /// Posts a request and gives it up at a random point, in one of four ways.
    private static func postAndLeave(_ pair: Pair, _ random: inout Random) async throws {
        let posted = try await pair.post([UInt8](repeating: 0, count: Int(random.next() >> 33) % 50))
        let taken = Int(random.next() >> 33) % 8
        let read = Int(random.next() >> 33) % 4
        let ending = Int(random.next() >> 33) % 4
        var sources = posted.makeAsyncIterator()
        var held: [ReceivedSource] = []
        for _ in 0..<taken {
            guard let source = try await sources.next() else { break }
            held.append(source)
            var frames = source.frames.makeAsyncIterator()
            for _ in 0..<read { _ = try await frames.next() }
        }
        switch ending {
        case 0: posted.cancel()
        case 1: for source in held { source.cancel() }
        case 2: while let source = try await sources.next() { source.cancel() }
        default: break
        }
    }
}
