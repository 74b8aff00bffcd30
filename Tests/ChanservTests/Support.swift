import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import Chanserv

/// A server and a client on a network of their own.
struct Pair {
    let network: InMemoryMultiplexer
    let service: Service
    let client: Client

    init(
        _ server: Server.Configuration = .init(), client: Client.Configuration = .init(), window: Int = 65_536,
        network: InMemoryMultiplexer? = nil, _ sourceFunc: @escaping SourceFunc
    ) throws {
        let network = network ?? InMemoryMultiplexer(window: window)
        self.network = network
        service = try Server(multiplexer: network, configuration: server).listenAndServe("svc", sourceFunc)
        self.client = Client(multiplexer: network, configuration: client)
    }

    func post(_ body: some Frame = "", tags: RequestTags = [:]) async throws -> ReceivedSources {
        try await client.lookupAndPost("svc", body: body, tags: tags)
    }

    /// Waits until the service has nothing left to do, at most two minutes.
    func idle() async -> Int {
        await service.drain(until: .now + .seconds(120))
    }
}

/// What happened, and a way to wait for it.
final class Journal: Sendable {
    private let entries = NIOLockedValueBox<[String]>([])
    private let news = Event()

    func add(_ entry: String) {
        entries.withLockedValue { $0.append(entry) }
        news.signal()
    }

    var all: [String] { entries.withLockedValue { $0 } }

    func count(_ entry: String) -> Int { all.filter { $0 == entry }.count }

    /// Waits for `entry` to have been added `times` times.
    func wait(for entry: String, times: Int = 1) async throws {
        let deadline = ContinuousClock.now + .seconds(120)
        while count(entry) < times {
            guard await news.wait(deadline: deadline) == .signalled else {
                throw ChanservError(.deadlineExceeded, "no \(entry) in \(all)")
            }
        }
    }
}

/// A producer that runs a closure and keeps a journal of how it is treated.
final class TestProducer: FrameProducer {
    private let journal: Journal
    private let name: String
    private let body: @Sendable (inout FrameBatch) async throws -> Bool

    init(
        _ journal: Journal = Journal(), _ name: String = "source",
        _ body: @escaping @Sendable (inout FrameBatch) async throws -> Bool
    ) {
        self.journal = journal
        self.name = name
        self.body = body
    }

    func produce(into batch: inout FrameBatch) async throws -> Bool {
        journal.add("\(name) polled")
        do {
            return try await body(&batch)
        } catch is CancellationError {
            journal.add("\(name) cancelled")
            throw CancellationError()
        }
    }

    func close() {
        journal.add("\(name) closed")
    }

    /// One that never ends: full batches of 1,000-byte frames.
    static func endless(_ journal: Journal = Journal(), _ name: String = "source") -> TestProducer {
        TestProducer(journal, name) { batch in
            while !batch.isFull { try batch.append([UInt8](repeating: 1, count: 1000)) }
            return true
        }
    }

    /// One that has nothing, for ever.
    static func silent(_ journal: Journal = Journal(), _ name: String = "source") -> TestProducer {
        TestProducer(journal, name) { _ in
            try await never()
            return true
        }
    }
}

/// Waits for cancellation.
func never() async throws {
    while await Event().wait() != .cancelled {}
    throw CancellationError()
}

struct TestError: ServingError, CustomStringConvertible {
    var description: String
    var countsAsFailure = true

    init(_ description: String, countsAsFailure: Bool = true) {
        self.description = description
        self.countsAsFailure = countsAsFailure
    }
}

/// The error that `body` throws.
func failure<Value>(_ body: () async throws -> Value) async -> ChanservError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? ChanservError ?? ChanservError(.cancelled, "not a ChanservError: \(error)")
    }
}

extension ReceivedFrames {
    func collect() async throws -> [[UInt8]] {
        var frames: [[UInt8]] = []
        for try await frame in self { frames.append(frame.array) }
        return frames
    }
}

extension ReceivedSources {
    func collect() async throws -> [ReceivedSource] {
        var sources: [ReceivedSource] = []
        for try await source in self { sources.append(source) }
        return sources
    }

    func first() async throws -> ReceivedSource {
        var iterator = makeAsyncIterator()
        return try #require(try await iterator.next())
    }
}
