import Chanserv
import Dispatch
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Each option of `Server.Configuration` has its documented effect.
@Suite(.timeLimit(.minutes(5))) struct ServerOptionTests {
    private let journal = Journal()

    private func configuration(_ change: (inout Server.Configuration) -> Void) -> Server.Configuration {
        var configuration = Server.Configuration()
        configuration.onError = { [journal] in journal.add("request: \($0.code)") }
        configuration.onChanError = { [journal] in journal.add("source: \($0.code)") }
        change(&configuration)
        return configuration
    }

    @Test func `the defaults are those of the Go package`() {
        let server = Server.Configuration()
        #expect(server.maxErrorMass == 10 && server.errorPause == .seconds(30))
        #expect(server.maxErrorPause == .seconds(300) && server.chanAcceptTimeout == .seconds(30))
        #expect(server.servingTimeout == nil && server.sourcingTimeout == nil && server.frameWriteTimeout == nil)
        #expect(server.masterReadTimeout == nil && server.masterWriteTimeout == nil && !server.compression)
        let client = Client.Configuration()
        #expect(client.dialTimeout == .seconds(10) && client.sourceBuffer == 128 && client.frameBuffer == 1024)
        #expect(client.masterReadTimeout == nil && client.masterWriteTimeout == nil && client.frameReadTimeout == nil)
    }

    @Test(arguments: Delivery.allCases)
    func `a source that the client does not dial ends at the accept timeout`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, configuration { $0.chanAcceptTimeout = .milliseconds(20) }) {
            [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.endless(journal))])
        }
        let master = try await pair.network.client.dial("svc", deadline: .testDeadline)
        try await master.write(ByteBuffer(repeating: 0, count: 8), deadline: nil)
        try await journal.wait(for: "source: deadline exceeded")
        try await journal.wait(for: "source closed")
        #expect(journal.all == ["source: deadline exceeded", "source closed"])
        #expect(await pair.idle() == 0)
        #expect(pair.network.names == ["svc"])
        #expect(pair.service.counters.failures == 0)
        master.close()
    }

    @Test(arguments: Delivery.allCases)
    func `a source that is read too slowly ends at the frame write timeout`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, configuration { $0.frameWriteTimeout = .milliseconds(20) }) {
            [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.endless(journal))])
        }
        let source = try await pair.post().first()
        try await journal.wait(for: "source closed")
        #expect(journal.count("source: deadline exceeded") == 1)
        let error = await failure { try await source.frames.collect() }
        #expect(error?.code == .sourceFailed)
        #expect(error?.message.contains("deadline exceeded") == true)
        #expect(pair.service.counters.failures == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a source ends at the serving timeout`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, configuration { $0.servingTimeout = .milliseconds(50) }) {
            [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal))])
        }
        let source = try await pair.post().first()
        let error = await failure { try await source.frames.collect() }
        #expect(error?.message.contains("serving timeout") == true)
        try await journal.wait(for: "source closed")
        #expect(journal.count("source: deadline exceeded") == 1)
    }

    @Test(arguments: Delivery.allCases)
    func `a source function without a source ends its request at the sourcing timeout`(
        over delivery: Delivery
    ) async throws {
        let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
        feed.yield(Source(header: "", frames: ["x"]))
        let pair = try await Pair(over: delivery, configuration { $0.sourcingTimeout = .milliseconds(50) }) { request in
            if request.body.readableBytes > 0 { try await never() }
            return stream
        }
        for body in ["", "silent"] {
            let sources = try await pair.post(body)
            let error = await failure { try await sources.collect() }
            #expect(error?.message.contains("sourcing timeout") == true)
        }
        #expect(await pair.idle() == 0)
        #expect(journal.all == ["request: deadline exceeded", "request: deadline exceeded"])
        #expect(pair.service.counters.failures == 2)
    }

    @Test(arguments: Delivery.allCases)
    func `a source function that ignores its cancellation does not delay the client`(
        over delivery: Delivery
    ) async throws {
        let (stream, feed) = AsyncThrowingStream<Int, any Error>.makeStream()
        let pair = try await Pair(over: delivery, configuration { $0.servingTimeout = .milliseconds(20) }) {
            [journal] _ in
            // An unstructured task is not cancelled with its creator.
            try await Task { for try await _ in stream {} }.value
            journal.add("woke")
            return SourceList([])
        }
        let sources = try await pair.post()
        let error = await failure { try await sources.collect() }
        #expect(error?.message.contains("serving timeout") == true)
        // The function has not returned.
        #expect(!journal.all.contains("woke"))
        feed.finish()
        #expect(await pair.idle() == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a request whose body does not arrive ends at the master read timeout`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, configuration { $0.masterReadTimeout = .milliseconds(20) }) { _ in
            SourceList([])
        }
        let master = try await pair.network.client.dial("svc", deadline: .testDeadline)
        try await master.write(ByteBuffer(bytes: [5, 0]), deadline: nil)
        await #expect(throws: ConnectionError.self) { try await master.read(deadline: nil) }
        #expect(await pair.idle() == 0)
        #expect(journal.all == ["request: deadline exceeded"])
        #expect(pair.service.counters.failures == 0)
        master.close()
    }

    @Test func `announcements that the client does not read end the request at the master write timeout`() async throws
    {
        let pair = try await Pair(configuration { $0.masterWriteTimeout = .milliseconds(20) }, window: 100) {
            [journal] _ in
            SourceList((0..<10).map { _ in Source(header: "header", producer: TestProducer.endless(journal)) })
        }
        let master = try await pair.network.client.dial("svc", deadline: .testDeadline)
        try await master.write(ByteBuffer(repeating: 0, count: 8), deadline: nil)
        try await journal.wait(for: "request: deadline exceeded")
        master.close()
        pair.service.cancelAll()
        #expect(await pair.idle() == 0)
        // Every added source was closed, and possibly one that waited to be added.
        let total = pair.service.counters.sourcesTotal
        #expect((total...total + 1).contains(journal.count("source closed")))
        try await pair.network.expectNothingLeft()
    }

    @Test(arguments: Delivery.allCases)
    func `at most maxUnacceptedSources sources wait for their dial`(over delivery: Delivery) async throws {
        let names = NIOLockedValueBox(0)
        let pair = try await Pair(over: delivery, configuration { $0.maxUnacceptedSources = 3 }) { [journal] _ in
            SourceList((0..<10).map { _ in Source(header: "", producer: TestProducer.endless(journal)) })
        }
        let master = try await pair.network.client.dial("svc", deadline: .testDeadline)
        try await master.write(ByteBuffer(repeating: 0, count: 8), deadline: nil)
        var decoder = FrameDecoder(decompresses: false)
        var fetched: [any Connection] = []
        while let bytes = try await master.read(deadline: .testDeadline) {
            decoder.append(bytes)
            while let frame = try decoder.next() {
                guard frame.readableBytes > 0 else { continue }
                #expect(pair.service.counters.sourcesWaiting <= 3)
                names.withLockedValue { $0 += 1 }
                fetched.append(
                    try await pair.network.client.dial(String(buffer: frame), deadline: .testDeadline))
            }
        }
        #expect(fetched.count == 10)
        for connection in fetched + [master] { connection.close() }
        #expect(await pair.idle() == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `at most maxListingRequests requests list their sources, and the others wait`(
        over delivery: Delivery
    ) async throws {
        let pair = try await Pair(over: delivery, configuration { $0.maxListingRequests = 2 }) { [journal] request in
            journal.add("began")
            if request.body.readableBytes > 0 { try await never() }
            return SourceList([])
        }
        let held = [try await pair.post("hold"), try await pair.post("hold")]
        try await journal.wait(for: "began", times: 2)
        let third = try await pair.post()
        #expect(pair.service.counters.requestsOpen == 2)
        held[0].cancel()
        let sources = try await third.collect()
        #expect(sources.isEmpty && journal.count("began") == 3)
        held[1].cancel()
        #expect(await pair.idle() == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `source functions and producers run on the configured executor`(over delivery: Delivery) async throws {
        let executor = QueueExecutor()
        let pair = try await Pair(over: delivery, configuration { $0.executor = executor }) { [journal] _ in
            journal.add("function \(executor.isCurrent)")
            let (stream, feed) = AsyncThrowingStream<Source, any Error>.makeStream()
            feed.yield(
                Source(
                    header: "",
                    producer: TestProducer { batch in
                        await Task.yield()
                        journal.add("producer \(executor.isCurrent)")
                        try batch.append("x")
                        return false
                    }))
            feed.finish()
            return stream
        }
        let frames = try await pair.post().first().frames.collect()
        #expect(frames.count == 1)
        #expect(journal.all == ["function true", "producer true"])
    }

    @Test(arguments: Delivery.allCases)
    func `batches are sent at the configured batch size`(over delivery: Delivery) async throws {
        let sizes = NIOLockedValueBox<[Int]>([])
        let pair = try await Pair(over: delivery, configuration { $0.batchSize = 1000 }) { _ in
            SourceList([
                Source(
                    header: "",
                    producer: TestProducer { batch in
                        while !batch.isFull { try batch.append([UInt8](repeating: 0, count: 92)) }
                        let size = batch.byteCount
                        return sizes.withLockedValue { sizes in
                            sizes.append(size)
                            return sizes.count < 5
                        }
                    })
            ])
        }
        let frames = try await pair.post().first().frames.collect()
        #expect(sizes.withLockedValue { $0 } == [1000, 1000, 1000, 1000, 1000])
        #expect(frames.count == 50)
    }
}

/// A dispatch queue that knows whether the current code runs on it.
private final class QueueExecutor: TaskExecutor {
    private static let key = DispatchSpecificKey<Bool>()
    private let queue = DispatchQueue(label: "test executor")

    init() {
        queue.setSpecific(key: Self.key, value: true)
    }

    var isCurrent: Bool { DispatchQueue.getSpecific(key: Self.key) == true }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
