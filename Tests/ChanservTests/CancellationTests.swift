import Chanserv
import NIOCore
import Testing

/// Cancelling a request or a source releases it at once at both ends and affects no other.
@Suite(.timeLimit(.minutes(5))) struct CancellationTests {
    /// Passes an iterator from task to task. `@unchecked Sendable`: each task starts after the previous one has ended.
    private final class Reader: @unchecked Sendable {
        private var frames: ReceivedFrames.Iterator

        init(_ frames: ReceivedFrames.Iterator) { self.frames = frames }

        func next() async throws -> ReceivedFrame? { try await frames.next() }
    }

    /// Serves three sources: `0` sends frames without end, `1` has 200 frames, `2` never sends a frame.
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
    func `a cancelled source is no longer polled and the other sources continue`(over delivery: Delivery) async throws {
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
    func `leaving the loop over its frames cancels a source`(over delivery: Delivery) async throws {
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
    func `dropping a source releases it, whether it was read or not`(over delivery: Delivery) async throws {
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
    func `a source stays readable after its request was dropped`(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await Pair(over: delivery) { _ in
            // Only the server holds this stream. When the listing stops, the stream is released and reports it.
            AsyncThrowingStream<Source, any Error> { feed in
                feed.onTermination = { _ in journal.add("listing over") }
                feed.yield(Source(header: "", frames: (0..<500).map { _ in [UInt8](repeating: 1, count: 1000) }))
                for _ in 0..<10 { feed.yield(Source(header: "", producer: TestProducer.silent(journal, "other"))) }
            }
        }
        let source = try await pair.post().first()
        // The client has dropped the request, so the server stops the listing and ends the sources that were not taken.
        try await journal.wait(for: "listing over")
        let frames = try await source.frames.collect()
        #expect(frames.count == 500)
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
        #expect(pair.network.names == ["svc"])
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func `cancelling a request ends a wait for its next source`(over delivery: Delivery) async throws {
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
    func `cancelling a task ends its wait for a frame and the source stays readable`(
        over delivery: Delivery
    ) async throws {
        let (stream, feed) = AsyncThrowingStream<String, any Error>.makeStream()
        let pair = try await Pair(over: delivery) { _ in SourceList([Source(header: "", frames: stream)]) }
        let source = try await pair.post().first()
        let reader = Reader(source.frames.makeAsyncIterator())
        feed.yield("first")
        _ = try await reader.next()
        for _ in 0..<50 {
            // The task is cancelled before or during its wait. No frame may get lost.
            let waiting = Task { await failure { try await reader.next() } }
            waiting.cancel()
            #expect(await waiting.value?.code == .cancelled)
        }
        feed.yield("second")
        let second = try await reader.next()
        #expect(second?.string == "second")
    }

    @Test(arguments: Delivery.allCases)
    func `a client that leaves cancels the running source function`(over delivery: Delivery) async throws {
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
    func `a peer that closes the stream of a source ends its producer`(over delivery: Delivery) async throws {
        let journal = Journal()
        let pair = try await Pair(over: delivery) { _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal))])
        }
        let master = try await pair.network.client.dial("svc", deadline: .testDeadline)
        try await master.write(ByteBuffer(repeating: 0, count: 8), deadline: nil)
        var decoder = FrameDecoder(decompresses: false)
        var name: String?
        while name == nil, let bytes = try await master.read(deadline: .testDeadline) {
            decoder.append(bytes)
            while let frame = try decoder.next() { name = String(buffer: frame) }
        }
        master.close()
        let uuid = try #require(name)
        #expect(uuid.count == 36 && Array(uuid)[14] == "4")
        let connection = try await pair.network.client.dial(uuid, deadline: .testDeadline)
        try await journal.wait(for: "source polled")
        connection.close()
        try await journal.wait(for: "source closed")
        #expect(journal.all == ["source polled", "source cancelled", "source closed"])
        #expect(await pair.idle() == 0)
    }
}
