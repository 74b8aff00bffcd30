import NIOCore
import Testing

@testable import Chanserv

/// Whatever is given up is freed at once at both ends, and nothing else is.
@Suite(.timeLimit(.minutes(5))) struct CancellationTests {
    /// Takes an iterator from task to task. `@unchecked Sendable`: each waits for the one before to end.
    private final class Reader: @unchecked Sendable {
        private var frames: ReceivedFrames.Iterator

        init(_ frames: ReceivedFrames.Iterator) { self.frames = frames }

        func next() async throws -> ReceivedFrame? { try await frames.next() }
    }

    /// Three sources: `0` and `2` endless, `1` of 200 frames.
    private func three(_ journal: Journal, _ delivery: Delivery) async throws -> Pair {
        try await Pair(over: delivery) { _ in
            SourceList([
                Source(header: "0", producer: TestProducer.endless(journal, "0")),
                Source(header: "1", frames: (0..<200).map { _ in [UInt8](repeating: 2, count: 1000) }),
                Source(header: "2", producer: TestProducer.silent(journal, "2")),
            ])
        }
    }

    @Test(arguments: Delivery.allCases)
    func aCancelledSourceIsPolledNoMoreAndItsSiblingsGoOn(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await three(journal, delivery)
        let sources = try await pair.post().collect()
        try await journal.wait(for: "2 polled")
        sources[0].cancel()
        sources[2].cancel()
        try await journal.wait(for: "0 closed")
        try await journal.wait(for: "2 closed")
        #expect(journal.count("2 cancelled") == 1)
        let frames = try await sources[1].frames.collect()
        #expect(frames.count == 200)
        let error = await failure { try await sources[0].frames.collect() }
        #expect(error?.code == .cancelled)
        #expect(await pair.idle() == 0)
        #expect(journal.count("0 closed") == 1 && journal.count("2 closed") == 1)
        #expect(pair.service.counters.failures == 0)
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func leavingALoopFreesTheSource(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await three(journal, delivery)
        let sources = try await pair.post().collect()
        for try await frame in sources[0].frames {
            #expect(frame.count == 1000)
            break
        }
        try await journal.wait(for: "0 closed")
        let error = await failure { try await sources[0].frames.collect() }
        #expect(error?.code == .cancelled)
    }

    @Test(arguments: Delivery.allCases)
    func droppingASourceFreesItWhetherOrNotItWasRead(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await three(journal, delivery)
        do {
            var sources = try await pair.post().collect()
            var frames: ReceivedFrames.Iterator? = sources.removeFirst().frames.makeAsyncIterator()
            _ = try await frames?.next()
            frames = nil
            try await journal.wait(for: "0 closed")
        }
        try await journal.wait(for: "2 closed")
        #expect(await pair.idle() == 0)
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func aSourceReadsOnAfterItsSourcesWereDropped(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await Pair(over: delivery) { _ in
            // The server alone holds it: wherever in the listing it stops, the stream is freed and says so.
            AsyncThrowingStream<Source, any Error> { feed in
                feed.onTermination = { _ in journal.add("listing over") }
                feed.yield(Source(header: "", frames: (0..<500).map { _ in [UInt8](repeating: 1, count: 1000) }))
                for _ in 0..<10 { feed.yield(Source(header: "", producer: TestProducer.silent(journal, "other"))) }
            }
        }
        let source = try await pair.post().first()
        // Nobody holds the sources any more, so the server stops listing and sending what was not handed out.
        try await journal.wait(for: "listing over")
        let frames = try await source.frames.collect()
        #expect(frames.count == 500)
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
        #expect(pair.network.names == ["svc"])
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func cancellingTheSourcesEndsAWaitForOne(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        defer { feed.finish() }
        let journal = Journal()
        let pair = try await Pair(over: delivery) { _ in
            journal.add("asked")
            return stream
        }
        let sources = try await pair.post()
        async let waiting = failure { try await sources.collect() }
        try await journal.wait(for: "asked")
        sources.cancel()
        sources.cancel()
        #expect(await waiting?.code == .cancelled)
        #expect(await pair.idle() == 0)
    }

    @Test(arguments: Delivery.allCases)
    func aCancelledTaskWaitsNoLongerAndTheSourceCanBeReadOn(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<String, any Error>.makeStream()
        let pair = try await Pair(over: delivery) { _ in SourceList([Source(header: "", frames: stream)]) }
        let source = try await pair.post().first()
        let reader = Reader(source.frames.makeAsyncIterator())
        feed.yield("first")
        _ = try await reader.next()
        for _ in 0..<50 {
            // A task that is cancelled while it waits, or before: no frame is lost by it.
            let waiting = Task { await failure { try await reader.next() } }
            waiting.cancel()
            #expect(await waiting.value?.code == .cancelled)
        }
        feed.yield("second")
        let second = try await reader.next()
        #expect(second?.string == "second")
    }

    @Test(arguments: Delivery.allCases)
    func aClientThatLeavesWhileTheFunctionWorksCancelsIt(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await Pair(over: delivery) { _ in
            journal.add("asked")
            do { try await never() } catch { journal.add("cancelled") }
            throw CancellationError()
        }
        let sources = try await pair.post()
        try await journal.wait(for: "asked")
        sources.cancel()
        try await journal.wait(for: "cancelled")
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
    }

    @Test(arguments: Delivery.allCases)
    func aPeerThatJustClosesASourceEndsItsProducer(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await Pair(over: delivery) { _ in SourceList([Source(header: "", producer: TestProducer.silent(journal))]) }
        let master = try await pair.network.client.dial("svc", deadline: .soon)
        try await master.write(ByteBuffer(repeating: 0, count: 8), deadline: nil)
        var decoder = FrameDecoder(decompresses: false)
        var name: String?
        while name == nil, let bytes = try await master.read(deadline: .soon) {
            decoder.append(bytes)
            while let frame = try decoder.next() { name = String(buffer: frame) }
        }
        master.close()
        let uuid = try #require(name)
        #expect(uuid.count == 36 && Array(uuid)[14] == "4")
        let connection = try await pair.network.client.dial(uuid, deadline: .soon)
        try await journal.wait(for: "source polled")
        connection.close()
        try await journal.wait(for: "source closed")
        #expect(journal.all == ["source polled", "source cancelled", "source closed"])
        #expect(await pair.idle() == 0)
    }
}
