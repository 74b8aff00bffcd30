import Chanserv
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Requests whose body is sent with the dial, and requests whose body is too large for that.
@Suite struct EagerRequestTests {
    /// Records for each dial whether the body was sent with it.
    private struct Counting: Multiplexer {
        let inner: any Multiplexer
        let sent = NIOLockedValueBox<[Bool]>([])

        func bind(
            _ name: String, visibleTo peer: (any Connection)?,
            onConnection: @escaping @Sendable (any Connection) -> DialAnswer
        ) throws(ConnectionError) -> any Binding {
            try inner.bind(name, visibleTo: peer, onConnection: onConnection)
        }

        nonisolated(nonsending) func dial(
            _ name: String, _ request: DialOptions, deadline: ContinuousClock.Instant
        ) async throws -> (connection: any Connection, isSent: Bool) {
            let result = try await inner.dial(name, request, deadline: deadline)
            sent.withLockedValue { $0.append(result.isSent) }
            return result
        }

        nonisolated(nonsending) func dial(
            _ name: String, receivedFrom peer: any Connection, deadline: ContinuousClock.Instant
        ) async throws -> any Connection {
            try await inner.dial(name, receivedFrom: peer, deadline: deadline)
        }
    }

    /// Calls `body` with a client of a server that runs `answer`. By default the server echoes the request.
    private func echoing(
        _ answer: @escaping SourceFunc = { SourceList([Source(header: "h", frames: [$0.body])]) },
        _ body: (Client, Counting) async throws -> Void
    ) async throws {
        let network = try await TestNetwork.make(.pushed)
        let server = Server(multiplexer: network.server)
        let service = try server.serve("svc", answer)
        let counting = Counting(inner: network.client)
        defer {
            service.stopAccepting()
            service.cancelAll()
        }
        try await body(Client(multiplexer: counting), counting)
    }

    @Test(arguments: [0, 1, 59_992, 59_993, 65_528, 65_536, 1_000_000])
    func `a body of any size arrives whole and is sent with the dial up to 59,992 bytes`(size: Int) async throws {
        try await echoing { client, network in
            let request = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            let source = try await client.lookupAndPost("svc", body: request).first()
            #expect(try await source.frames.collect() == [request])
            // The 8 bytes of the frame length count too.
            #expect(network.sent.withLockedValue { $0 } == [size <= 59_992])
        }
    }

    @Test func `frames of a short answer arrive before its error`() async throws {
        let failing: SourceFunc = { _ in
            SourceList([
                Source(
                    header: "",
                    frames: AsyncThrowingStream<String, any Error> {
                        $0.yield("before")
                        $0.finish(throwing: TestError("on fire"))
                    })
            ])
        }
        try await echoing(failing) { client, _ in
            // Often the whole answer arrives in one read with the SYN. Ten failures in a row would withdraw the name.
            for _ in 0..<8 {
                var frames = try await client.lookupAndPost("svc", body: "").first().frames.makeAsyncIterator()
                #expect(try await frames.next()?.string == "before")
                #expect(await failure { try await frames.next() }?.message.contains("on fire") == true)
            }
        }
    }

    @Test func `a multiplexer that sends no body with the dial leaves that to the caller`() async throws {
        let network = InMemoryMultiplexer()
        let listener = try network.listen("svc")
        let (connection, isSent) = try await network.dial(
            "svc", DialOptions(first: ByteBuffer(string: "x")), deadline: .testDeadline)
        #expect(!isSent)
        connection.close()
        let accepted = try await listener.accept()
        #expect(try await accepted.read(deadline: .testDeadline) == nil)
        accepted.close()
        listener.close()
    }

    @Test func `a request for a name that is not offered fails as not found`() async throws {
        try await echoing { client, _ in
            var configuration = client.configuration
            configuration.dialTimeout = .milliseconds(50)
            let client = Client(multiplexer: client.multiplexer, configuration: configuration)
            #expect(await failure { try await client.lookupAndPost("other", body: "x") }?.code == .notFound)
        }
    }
}
