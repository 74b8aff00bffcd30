import Chanserv
import NIOCore
import Testing

/// Each option of `Client.Configuration` has its documented effect.
@Suite(.timeLimit(.minutes(5))) struct ClientOptionTests {
    private let journal = Journal()

    private func configuration(_ change: (inout Client.Configuration) -> Void) -> Client.Configuration {
        var configuration = Client.Configuration()
        configuration.onError = { [journal] in journal.add("\($0.code)") }
        change(&configuration)
        return configuration
    }

    @Test(arguments: Delivery.allCases)
    func `the client fetches at most sourceBuffer sources ahead`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, client: configuration { $0.sourceBuffer = 3 }) { [journal] _ in
            SourceList((0..<50).map { Source(header: "", producer: TestProducer.endless(journal, "\($0)")) })
        }
        var sources = try await pair.post().makeAsyncIterator()
        var held: [ReceivedSource] = []
        for index in 0..<20 {
            held.append(try #require(try await sources.next()))
            // One source taken and three ahead. One more is announced, but not dialled before there is room.
            #expect(pair.service.counters.sourcesOpen <= index + 1 + 3)
        }
        try await journal.wait(for: "22 polled")
        #expect(journal.count("23 polled") == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a request without announcements fails at the master read timeout`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, client: configuration { $0.masterReadTimeout = .milliseconds(20) }) {
            [journal] _ in
            do { try await never() } catch { journal.add("function cancelled") }
            return SourceList([])
        }
        let sources = try await pair.post()
        let error = await failure { try await sources.collect() }
        #expect(error?.code == .deadlineExceeded && error?.message.contains("master read") == true)
        try await journal.wait(for: "function cancelled")
        #expect(journal.count("deadline exceeded") == 1)
        #expect(await pair.idle() == 0)
    }

    @Test func `a request that the server does not read fails at the master write timeout`() async throws {
        let network = InMemoryMultiplexer(window: 10)
        let listener = try network.listen("svc")
        let client = Client(
            multiplexer: network, configuration: configuration { $0.masterWriteTimeout = .milliseconds(20) })
        let error = await failure { try await client.lookupAndPost("svc", body: "more than ten bytes") }
        #expect(error?.code == .deadlineExceeded)
        #expect(journal.all == ["deadline exceeded"])
        let master = try await listener.accept()
        master.close()
        #expect(network.connectionCount == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a source without frames fails at the frame read timeout`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, client: configuration { $0.frameReadTimeout = .milliseconds(20) }) {
            [journal] _ in
            SourceList([
                Source(
                    header: "",
                    producer: TestProducer(journal) { batch in
                        if journal.count("source polled") > 1 { try await never() }
                        try batch.append("one")
                        return true
                    })
            ])
        }
        var frames = try await pair.post().first().frames.makeAsyncIterator()
        let first = try await frames.next()
        #expect(first?.string == "one")
        let error = await failure { try await frames.next() }
        #expect(error?.code == .deadlineExceeded && error?.message.contains("frame read") == true)
        try await journal.wait(for: "source closed")
        #expect(journal.count("deadline exceeded") == 1)
    }

    @Test(arguments: Delivery.allCases)
    func `a cancellation by the client is not reported as an error`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, client: configuration { _ in }) { [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal))])
        }
        let sources = try await pair.post()
        let source = try await sources.first()
        source.cancel()
        sources.cancel()
        let error = await failure { try await source.frames.collect() }
        #expect(error?.code == .cancelled)
        #expect(await pair.idle() == 0)
        #expect(journal.all.filter { !$0.hasPrefix("source") }.isEmpty)
    }
}
