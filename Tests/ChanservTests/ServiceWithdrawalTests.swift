import Chanserv
import NIOCore
import Testing

/// Withdrawing the name of a service and restoring it.
@Suite struct ServiceWithdrawalTests {
    private let journal = Journal()

    private func answers(_ text: String) -> SourceFunc {
        { _ in SourceList([Source(header: "", frames: [text])]) }
    }

    @Test(arguments: Delivery.allCases)
    func `withdrawing a service unbinds its name and leaves open requests running`(
        over delivery: Delivery
    ) async throws {
        let (stream, feed) = AsyncThrowingStream<String, any Error>.makeStream()
        let pair = try await Pair(over: delivery) { _ in SourceList([Source(header: "", frames: stream)]) }
        var frames = try await pair.post().first().frames.makeAsyncIterator()
        feed.yield("one")
        _ = try await frames.next()

        pair.service.disable()
        pair.service.disable()
        #expect(pair.service.state == .disabled)
        #expect(pair.network.names.contains("svc") == false)
        #expect(await pair.service.waitUntilIdle(until: .now) > 0)

        feed.yield("two")
        let second = try await frames.next()
        #expect(second?.string == "two")
        async let idle = pair.service.waitUntilIdle(until: .testDeadline)
        feed.finish()
        let end = try await frames.next()
        #expect(end == nil)
        #expect(await idle == 0)
        #expect(pair.service.state == .disabled)
    }

    @Test(arguments: Delivery.allCases)
    func `a restored service serves new requests and a dial that waited for its name`(
        over delivery: Delivery
    ) async throws {
        let pair = try await Pair(over: delivery, .init(), answers("here"))
        pair.service.disable()
        #expect(await pair.service.waitUntilIdle(until: .testDeadline) == 0)
        async let waiting = pair.ask()
        pair.service.enable()
        pair.service.enable()
        #expect(try await waiting == "here")
        #expect(pair.service.state == .serving)
        #expect(try await pair.ask() == "here")
    }

    @Test(arguments: Delivery.allCases)
    func `requests dialled before the withdrawal are served`(over delivery: Delivery) async throws {
        // Only one request lists at a time, so the others wait for admission.
        var configuration = Server.Configuration()
        configuration.maxListingRequests = 1
        // The late clients do not dial their sources. A short accept timeout ends these.
        configuration.chanAcceptTimeout = .milliseconds(50)
        let (gate, open) = AsyncThrowingStream<Int, any Error>.makeStream()
        let pair = try await Pair(over: delivery, configuration) { [journal] request in
            journal.add("opened")
            for try await _ in gate {}
            return SourceList([Source(header: "", frames: [String(buffer: request.body)])])
        }
        async let first = pair.ask("first")
        try await journal.wait(for: "opened")
        let connections = try await [
            pair.network.client.dial("svc", deadline: .testDeadline),
            pair.network.client.dial("svc", deadline: .testDeadline),
        ]
        pair.service.disable()
        #expect(pair.network.names.isEmpty)
        open.finish()
        // These clients dialled before the withdrawal, so the service still admits their requests.
        for connection in connections {
            var body = FrameBatch()
            try body.append(uncompressed: "late")
            try await connection.write(body.take(), deadline: .testDeadline)
        }
        #expect(try await first == "first")
        try await journal.wait(for: "opened", times: 3)
        for connection in connections { connection.close() }
        #expect(await pair.service.waitUntilIdle(until: .testDeadline) == 0)
        #expect(pair.service.counters.requestsTotal == 3)
    }

    @Test(arguments: Delivery.allCases)
    func `a request that waits for admission fails when the service is cancelled`(
        over delivery: Delivery
    ) async throws {
        var configuration = Server.Configuration()
        configuration.maxListingRequests = 1
        let pair = try await Pair(over: delivery, configuration) { [journal] _ in
            journal.add("opened")
            try await never()
            return SourceList([Source(header: "", frames: ["never"])])
        }
        async let first = failure { try await pair.ask("first") }
        try await journal.wait(for: "opened")
        let late = try await pair.network.client.dial("svc", deadline: .testDeadline)
        pair.service.disable()
        // One request runs and one waits for admission.
        #expect(await pair.service.waitUntilIdle(until: .now) == 2)
        pair.service.cancelAll()
        #expect(await first?.message.contains("stopped") == true)
        let told = await failure { try await late.read(deadline: .testDeadline) }
        #expect(told != nil)
        late.close()
        #expect(await pair.service.waitUntilIdle(until: .testDeadline) == 0)
        #expect(journal.count("opened") == 1)
    }

    @Test(arguments: Delivery.allCases)
    func `restoring a service clears its error mass`(over delivery: Delivery) async throws {
        var configuration = Server.Configuration()
        configuration.maxErrorMass = 1
        configuration.errorPause = .seconds(3600)
        configuration.maxErrorPause = .seconds(3600)
        configuration.onMaxErrorMass = { [journal] _, _ in journal.add("mass") }
        let pair = try await Pair(over: delivery, configuration) { request in
            if request.body.readableBytes == 0 { throw TestError("broken") }
            return SourceList([Source(header: "", frames: ["fine"])])
        }
        _ = await failure { try await pair.ask() }
        try await journal.wait(for: "mass")
        #expect(pair.network.names.isEmpty)
        pair.service.enable()
        #expect(try await pair.ask("x") == "fine")
        #expect(pair.service.state == .serving && pair.service.counters.errorMass == 0)

        // Withdrawn by its failures and by its owner: one call of enable() binds the name again.
        _ = await failure { try await pair.ask() }
        try await journal.wait(for: "mass", times: 2)
        pair.service.disable()
        #expect(pair.service.state == .disabled)
        pair.service.enable()
        #expect(try await pair.ask("x") == "fine")
    }

    @Test(arguments: Delivery.allCases)
    func `an update does not restore a withdrawn service`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, .init(), answers("old"))
        pair.service.disable()
        #expect(await pair.service.waitUntilIdle(until: .testDeadline) == 0)
        pair.service.update(configuration: .init(), sourceFunc: answers("new"), ignoresFailures: true)
        #expect(pair.service.state == .disabled)
        pair.service.enable()
        #expect(try await pair.ask() == "new")
    }

    @Test(arguments: Delivery.allCases)
    func `a withdrawn service can be stopped`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, .init(), answers("x"))
        pair.service.disable()
        pair.service.stopAccepting()
        pair.service.enable()
        #expect(pair.service.state == .stopped && pair.network.names.isEmpty)
        #expect(await pair.service.drain(until: .testDeadline) == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `every accepted request is answered while the service is withdrawn and restored`(
        over delivery: Delivery
    ) async throws {
        let pair = try await Pair(over: delivery, .init(), answers("x"))
        let clients = Task {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        for _ in 0..<200 {
                            // A dial during a withdrawal may be refused. A request that was accepted must be answered.
                            do {
                                if try await pair.ask() != "x" { return false }
                            } catch let error as ChanservError
                                where (error.cause as? ConnectionError)?.code == .refused
                                // The name was bound when it was dialled, and withdrawn before the request was served.
                                || error.message.hasPrefix("refused: ")
                            {}
                        }
                        return true
                    }
                }
                return try await group.reduce(true) { $0 && $1 }
            }
        }
        for _ in 0..<200 {
            pair.service.disable()
            await Task.yield()
            pair.service.enable()
            await Task.yield()
        }
        #expect(try await clients.value)
        #expect(await pair.idle() == 0)
        #expect(pair.service.counters.failures == 0)
    }
}
