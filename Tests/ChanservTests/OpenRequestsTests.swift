import Chanserv
import NIOCore
import Testing

/// The set of open requests: queries, used instances, waits and deadlines.
@Suite(.timeLimit(.minutes(5))) struct OpenRequestsTests {
    private func question(_ host: ManualService) -> OpenRequests.Selector { .service(ObjectIdentifier(host.service)) }

    // MARK: Queries

    @Test func `a request is counted until it is answered and its handler has finished`() throws {
        let host = try ManualService()
        #expect(host.open.count(.all) == 0 && host.service.counters.requestsOpen == 0)
        let work = try host.request(FakeConnection())
        #expect(host.open.count(.all) == 1 && host.open.count(question(host)) == 1)
        #expect(host.service.counters.requestsOpen == 1)
        work.scope.finish(nil)
        // The handler has not finished yet.
        #expect(host.open.count(.all) == 1 && host.service.counters.requestsOpen == 0)
        work.scope.handlerFinished()
        #expect(host.open.count(.all) == 0 && host.open.requests().isEmpty)
        #expect(host.service.counters.requestsTotal == 1)
    }

    @Test func `a request whose handler finishes first is counted until it is answered`() throws {
        let host = try ManualService()
        let work = try host.request(FakeConnection(sources: 1))
        let source = try work.add()
        work.scope.finish(nil)
        work.scope.handlerFinished()
        #expect(host.open.count(.all) == 1 && host.service.counters.requestsOpen == 1)
        source.output.finish(nil)
        try #require(host.handler.requests.count == 1)
        #expect(host.open.count(.all) == 1)
        host.service.cancelAll()
        #expect(host.open.count(.all) == 0 && host.service.counters.requestsOpen == 0)
    }

    /// Two threads race: one has found the request answered, and the handler finishes on another before the first one
    /// reports that.
    @Test func `an end of the handler that is recorded before the answer leaves no entry`() throws {
        let host = try ManualService()
        let work = try host.request(FakeConnection())
        host.open.handlerFinished(work.scope)
        #expect(host.open.count(.all) == 1 && host.service.counters.requestsOpen == 1)
        host.open.listed(work.scope)
        host.open.answered(work.scope, isHandlerFinished: false)
        #expect(host.open.count(.all) == 0 && host.service.counters.requestsOpen == 0)
        // Repeats both calls: nothing is counted twice.
        host.open.handlerFinished(work.scope)
        host.open.answered(work.scope, isHandlerFinished: true)
        #expect(host.service.counters.requestsOpen == 0)
    }

    @Test func `requests are found by service, generation and id, oldest first`() throws {
        let host = try ManualService()
        let other = try host.server.serve("other", handler: host.handler)
        let works = try (0..<3).map { _ in try host.request(FakeConnection()) }
        #expect(try host.network.request(FakeConnection(), to: "other") == .accepted)
        #expect(host.open.requests().map(\.id) == host.open.requests().map(\.id).sorted())
        #expect(host.open.requests(question(host)).map(\.id) == works.map(\.scope.id))
        #expect(host.open.count(.service(ObjectIdentifier(other))) == 1 && host.open.count(.all) == 4)

        let old = host.service.update(configuration: .init(), handler: host.handler)
        let new = try host.request(FakeConnection())
        let id = ObjectIdentifier(host.service)
        #expect(host.open.count(.revision(id, through: old.number)) == 3)
        #expect(host.open.count(.revision(id, through: old.number + 1)) == 4)
        #expect(host.open.requests(.revision(id, through: old.number)).map(\.id) == works.map(\.scope.id))

        #expect(host.open.cancel(id: works[1].scope.id, reason: "by an operator"))
        #expect(works.map(\.cancelled) == [0, 1, 0] && new.cancelled == 0)
        works[1].scope.handlerFinished()
        #expect(!host.open.cancel(id: works[1].scope.id, reason: nil))
        #expect(host.open.request(id: works[1].scope.id) == nil)
        #expect(host.open.request(id: works[0].scope.id) === works[0].scope)
        host.open.cancel(.revision(id, through: old.number), reason: nil)
        #expect(works.map(\.cancelled) == [1, 1, 1] && new.cancelled == 0)
    }

    @Test func `a request belongs to the revision that is current when its body is complete`() throws {
        let host = try ManualService()
        let connection = FakeConnection(body: nil)
        try host.network.request(connection)
        let id = ObjectIdentifier(host.service)
        let old = host.service.update(configuration: .init(), handler: host.handler)
        #expect(host.open.count(.revision(id, through: old.number)) == 0)
        #expect(host.open.count(.revision(id, through: .max)) == 1 && host.open.count(.all) == 1)
        connection.receive([UInt8](repeating: 0, count: 8))
        #expect(host.handler.requests.count == 1)
        #expect(host.open.count(.revision(id, through: old.number)) == 0)
        #expect(host.open.count(.revision(id, through: old.number + 1)) == 1)
    }

    // MARK: Instances

    @Test func `a request uses an open instance until its handler has finished`() throws {
        let host = try ManualService()
        let (first, second) = (try host.request(FakeConnection()), try host.request(FakeConnection()))
        #expect(!host.open.use(instance: 7, hostGeneration: 3, for: first.scope))
        #expect(host.open.count(.instance(7)) == 0 && host.open.countByGeneration.isEmpty)
        host.open.open(instance: 7)
        host.open.open(instance: 8)
        #expect(host.open.use(instance: 7, hostGeneration: 3, for: first.scope))
        #expect(host.open.count(.instance(7)) == 1 && host.open.count(.instance(8)) == 0)
        #expect(host.open.countByGeneration == [3: 1])
        host.open.close(instance: 7)
        #expect(!host.open.use(instance: 7, hostGeneration: 3, for: second.scope))
        #expect(host.open.use(instance: 8, hostGeneration: 4, for: second.scope))
        #expect(host.open.countByGeneration == [3: 1, 4: 1])
        first.scope.finish(nil)
        #expect(host.open.count(.instance(7)) == 1)
        first.scope.handlerFinished()
        #expect(host.open.count(.instance(7)) == 0 && host.open.countByGeneration == [4: 1])
        host.open.open(instance: 7)
        #expect(host.open.use(instance: 7, for: second.scope))
    }

    // MARK: Waits

    @Test func `a wait returns at once if no request matches`() async throws {
        let host = try ManualService()
        #expect(await host.open.wait(untilNone: .all, deadline: .testDeadline) == 0)
        _ = try host.request(FakeConnection())
        #expect(await host.open.wait(untilNone: .instance(1), deadline: .testDeadline) == 0)
    }

    @Test func `a wait returns the number of remaining requests at its deadline`() async throws {
        let host = try ManualService()
        for _ in 0..<3 { _ = try host.request(FakeConnection()) }
        let clock = host.network.clock
        let before = clock.scheduledCount
        async let left = host.open.wait(untilNone: .all, deadline: clock.now + .seconds(1))
        while clock.scheduledCount == before { await Task.yield() }
        clock.advance(by: .seconds(1))
        #expect(await left == 3)
    }

    @Test func `cancelling the task ends its wait`() async throws {
        let host = try ManualService()
        _ = try host.request(FakeConnection())
        let wait = Task { await host.open.wait(untilNone: .all, deadline: .testDeadline) }
        wait.cancel()
        #expect(await wait.value == 1)
    }

    @Test func `a wait ends with the last request that it matches`() async throws {
        let host = try ManualService()
        let works = try (0..<3).map { _ in try host.request(FakeConnection()) }
        host.open.open(instance: 1)
        #expect(host.open.use(instance: 1, for: works[0].scope))
        #expect(host.open.use(instance: 1, for: works[1].scope))
        async let unused = host.open.wait(untilNone: .instance(1), deadline: .testDeadline)
        async let all = host.open.wait(untilNone: .all, deadline: .testDeadline)
        for work in works.prefix(2) {
            work.scope.finish(nil)
            work.scope.handlerFinished()
        }
        #expect(await unused == 0)
        #expect(host.open.count(.all) == 1)
        works[2].scope.handlerFinished()
        works[2].scope.finish(nil)
        #expect(await all == 0)
    }

    // MARK: Deadlines

    @Test func `a request ends if its body does not arrive within the master read timeout`() throws {
        let host = try ManualService { $0.masterReadTimeout = .seconds(5) }
        let connection = FakeConnection(body: nil)
        try host.network.request(connection)
        host.network.clock.advance(by: .seconds(4))
        #expect(connection.end == nil)
        host.network.clock.advance(by: .seconds(1))
        let error = "deadline exceeded: reading the request: master read timeout"
        #expect(connection.end == .aborted(error))
        #expect(host.journal.all == ["request: \(error)"])
        #expect(host.open.count(.all) == 0 && host.service.counters.failures == 0)
    }

    @Test func `the master read timeout ends once the body has arrived`() throws {
        let host = try ManualService { $0.masterReadTimeout = .seconds(5) }
        let connection = FakeConnection()
        _ = try host.request(connection)
        host.network.clock.advance(by: .seconds(3_600))
        #expect(connection.end == nil && host.open.count(.all) == 1)
    }

    @Test func `each request ends at its own deadline, in any order of arrival`() throws {
        let host = try ManualService()
        let start = host.network.clock.now
        let connections = [30.0, 10, 20].map {
            FakeConnection(context: RequestContext(deadline: start + .seconds($0)))
        }
        let works = try connections.map { try host.request($0) }
        for (time, ended) in [(9, []), (1, [1]), (9, [1]), (1, [1, 2]), (10, [0, 1, 2])] {
            host.network.clock.advance(by: .seconds(time))
            #expect(connections.indices.filter { connections[$0].end != nil } == ended)
        }
        #expect(works.map(\.cancelled) == [1, 1, 1])
        #expect(
            host.journal.all == [String](repeating: "request: deadline exceeded: the deadline of the request", count: 3)
        )
        // The client set the deadline, so its expiry is no failure of the service.
        #expect(host.service.counters.failures == 0)
    }

    @Test func `the deadline of the client also ends the sources that it has accepted`() throws {
        let host = try ManualService()
        let connection = FakeConnection(
            sources: 2, context: RequestContext(deadline: host.network.clock.now + .seconds(10)))
        let work = try host.request(connection)
        let sources = [try work.add(), try work.add()]
        connection.pushed[0].accept()
        connection.leave()
        #expect(sources.map(\.cancelled) == [0, 1])
        host.network.clock.advance(by: .seconds(10))
        #expect(connection.pushed[0].end == .aborted("deadline exceeded: the deadline of the request"))
        #expect(sources.map(\.cancelled) == [1, 1])
    }

    @Test func `no timer is scheduled for an answered request whose handler has not finished`() throws {
        let host = try ManualService { $0.servingTimeout = .seconds(1) }
        let connection = FakeConnection(
            sources: 1, context: RequestContext(deadline: host.network.clock.now + .seconds(10)))
        let work = try host.request(connection)
        let source = try work.add()
        connection.pushed[0].accept()
        host.network.clock.advance(by: .seconds(20))
        #expect(source.cancelled == 1 && work.cancelled == 1 && host.service.counters.requestsOpen == 0)
        host.network.clock.advance(by: .seconds(60))
        #expect(host.open.count(.all) == 1 && host.network.clock.scheduledCount == 0)
        work.scope.handlerFinished()
        #expect(host.open.count(.all) == 0)
    }

    @Test func `one timer serves the deadlines of many requests`() throws {
        let host = try ManualService { $0.chanAcceptTimeout = .seconds(30) }
        for _ in 0..<100 {
            let connection = FakeConnection(sources: 8)
            let work = try host.request(connection)
            for _ in 0..<8 { _ = try work.add() }
            host.network.clock.advance(by: .milliseconds(1))
        }
        #expect(host.network.clock.scheduledCount == 1)
    }

    @Test func `the sourcing timeout restarts with each source and does not run while the grant is used up`() throws {
        let host = try ManualService { $0.sourcingTimeout = .seconds(5) }
        let silent = FakeConnection(sources: 1)
        let work = try host.request(silent)
        host.network.clock.advance(by: .seconds(4))
        // Each source restarts the timeout.
        _ = try work.add()
        host.network.clock.advance(by: .seconds(4))
        #expect(silent.end == nil)
        guard case .grantExhausted = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
            Issue.record("more sources were pushed than granted")
            return
        }
        host.network.clock.advance(by: .seconds(20))
        #expect(silent.end == nil)
        silent.pushed[0].accept()
        #expect(work.resumed > 0)
        _ = try work.add()
        host.network.clock.advance(by: .seconds(5))
        #expect(silent.end == .aborted("deadline exceeded: sourcing timeout"))
        #expect(work.cancelled == 1 && host.service.counters.failures == 1)
    }

    @Test func `the accept timeout of a source restarts when the client accepts another source`() throws {
        let host = try ManualService { $0.chanAcceptTimeout = .seconds(30) }
        let connection = FakeConnection(sources: 3)
        let work = try host.request(connection)
        let sources = try (0..<3).map { _ in try work.add() }
        sources[2].output.finish(nil)
        host.network.clock.advance(by: .seconds(29))
        connection.pushed[0].accept()
        host.network.clock.advance(by: .seconds(29))
        #expect(connection.pushed[1].end == nil)
        #expect(host.service.counters.sourcesWaiting == 2 && host.service.counters.sourcesOpen == 1)
        host.network.clock.advance(by: .seconds(1))
        let error = "deadline exceeded: chan accept timeout: the client did not accept the source in 30s"
        #expect(connection.pushed[1].end == .aborted(error) && connection.pushed[2].end == .aborted(error))
        #expect(host.journal.all == ["source: \(error)", "source: \(error)"])
        #expect(sources.map(\.cancelled) == [0, 1, 0])
        #expect(connection.pushed[0].end == nil && host.service.counters.failures == 0)
        #expect(host.service.counters.sourcesWaiting == 0)
    }

    @Test func `a source ends at the frame write timeout, which restarts when the client makes room`() throws {
        let host = try ManualService { $0.frameWriteTimeout = .seconds(5) }
        let connection = FakeConnection(sources: 1)
        let source = try host.request(connection).add()
        let pushed = connection.pushed[0]
        pushed.accept()
        pushed.setRoom(false)
        #expect(try source.send(10) == .full)
        host.network.clock.advance(by: .seconds(4))
        #expect(source.output.room == .full)
        pushed.setRoom(true)
        #expect(source.output.room == .free)
        host.network.clock.advance(by: .seconds(60))
        #expect(pushed.end == nil)
        pushed.setRoom(false)
        #expect(try source.send(10) == .full)
        host.network.clock.advance(by: .seconds(5))
        #expect(pushed.end == .aborted("deadline exceeded: sending frames: frame write timeout"))
        #expect(source.cancelled == 1 && host.service.counters.failures == 0)
    }

    @Test func `the serving timeout of a source starts when the client accepts it`() throws {
        let host = try ManualService { $0.servingTimeout = .seconds(10) }
        let connection = FakeConnection(sources: 2)
        let work = try host.request(connection)
        _ = try (0..<2).map { _ in try work.add() }
        work.scope.finish(nil)
        host.network.clock.advance(by: .seconds(5))
        connection.pushed[0].accept()
        host.network.clock.advance(by: .seconds(9))
        connection.pushed[1].accept()
        #expect(connection.pushed.map(\.end) == [nil, nil])
        host.network.clock.advance(by: .seconds(1))
        #expect(connection.pushed.map(\.end) == [.aborted("deadline exceeded: serving timeout"), nil])
        host.network.clock.advance(by: .seconds(9))
        #expect(connection.pushed[1].end == .aborted("deadline exceeded: serving timeout"))
        // Either the client or the server was too slow. The cause is unknown, so this is no failure of the service.
        #expect(host.service.counters.failures == 0 && host.service.counters.requestsOpen == 0)
    }
}
