import Chanserv
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// A server and a client on their own network.
struct Pair {
    let network: TestNetwork
    let server: Server
    let service: VirtualService
    let client: Client

    /// - Parameter delivery: how sources reach the client. Default: by name, on a network inside the process.
    init(
        over delivery: Delivery = .memory, _ server: Server.Configuration = .init(),
        client: Client.Configuration = .init(),
        window: Int = 65_536, _ sourceFunc: @escaping SourceFunc
    ) async throws {
        try await self.init(
            on: TestNetwork.make(delivery, window: window), server, client: client, sourceFunc)
    }

    init(
        on network: TestNetwork, _ server: Server.Configuration = .init(), client: Client.Configuration = .init(),
        _ sourceFunc: @escaping SourceFunc
    ) throws {
        self.network = network
        self.server = Server(multiplexer: network.server, configuration: server)
        service = try self.server.serve("svc", sourceFunc)
        var client = client
        if network.delivery == .named { client.acceptsPushedSources = false }
        self.client = Client(multiplexer: network.client, configuration: client)
    }

    func post(
        _ body: some Frame = "", tags: RequestTags = [:], deadline: ContinuousClock.Instant? = nil,
        traceParent: String? = nil
    ) async throws -> ReceivedSources {
        try await client.lookupAndPost("svc", body: body, tags: tags, deadline: deadline, traceParent: traceParent)
    }

    /// Posts `body`, and returns all frames of all sources as one text.
    func ask(_ body: String = "") async throws -> String {
        var text = ""
        for try await source in try await post(body) {
            for try await frame in source.frames { text += frame.string }
        }
        return text
    }

    /// Dials the service as a client with named sources, and writes `bytes` in place of a request.
    func dial(sending bytes: [UInt8] = [UInt8](repeating: 0, count: 8)) async throws -> any Connection {
        let connection = try await network.client.dial("svc", deadline: .testDeadline)
        try await connection.write(ByteBuffer(bytes: bytes), deadline: nil)
        return connection
    }

    /// Waits at most two minutes until the service has no open request, then cancels the rest.
    ///
    /// - Returns: the number of requests that are still open.
    func idle() async -> Int {
        await service.drain(until: .testDeadline)
    }
}

extension ContinuousClock.Instant {
    /// A deadline in two minutes. Only a test that hangs reaches it.
    static var testDeadline: ContinuousClock.Instant { .now + .seconds(120) }
}

/// A list of events that a test can wait for.
final class Journal: Sendable {
    private let entries = NIOLockedValueBox<[String]>([])
    private let news = Event()

    func add(_ entry: String) {
        entries.withLockedValue { $0.append(entry) }
        news.signal()
    }

    var all: [String] { entries.withLockedValue { $0 } }

    func count(_ entry: String) -> Int { all.filter { $0 == entry }.count }

    /// Waits until `entry` was added `times` times.
    func wait(for entry: String, times: Int = 1) async throws {
        let deadline = ContinuousClock.Instant.testDeadline
        while count(entry) < times {
            guard await news.wait(deadline: deadline) == .signalled else {
                throw ChanservError(.deadlineExceeded, "no \(entry) in \(all)")
            }
        }
    }
}

/// A producer that runs a closure and records each of its calls in a journal.
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

    /// A producer that never ends: it fills each batch with frames of 1,000 bytes.
    static func endless(_ journal: Journal = Journal(), _ name: String = "source") -> TestProducer {
        TestProducer(journal, name) { batch in
            while !batch.isFull { try batch.append([UInt8](repeating: 1, count: 1000)) }
            return true
        }
    }

    /// A producer that never has a frame.
    static func silent(_ journal: Journal = Journal(), _ name: String = "source") -> TestProducer {
        TestProducer(journal, name) { _ in
            try await never()
            return true
        }
    }
}

/// Suspends until the task is cancelled, then throws `CancellationError`.
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
