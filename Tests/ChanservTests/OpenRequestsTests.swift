import NIOCore
import Testing

@testable import Chanserv

/// The set of open requests: questions about it, waits, leases and deadlines.
@Suite(.timeLimit(.minutes(5))) struct OpenRequestsTests {
    private func question(_ host: ManualService) -> OpenRequests.Question { .service(ObjectIdentifier(host.service)) }

    // MARK: Questions

    @Test func `a request is counted until it is answered and released`() throws {
        let host = try ManualService()
        #expect(host.open.count(.all) == 0 && host.service.counters.requestsOpen == 0)
        let work = try host.request(FakeConnection())
        #expect(host.open.count(.all) == 1 && host.open.count(question(host)) == 1)
        #expect(host.service.counters.requestsOpen == 1)
        work.scope.finish(nil)
        // Code still works on it.
        #expect(host.open.count(.all) == 1 && host.service.counters.requestsOpen == 0)
        work.scope.released()
        #expect(host.open.count(.all) == 0 && host.open.requests().isEmpty)
        #expect(host.service.counters.requestsTotal == 1)
    }

    @Test func `a request that is released first is counted until it is answered`() throws {
        let host = try ManualService()
        let work = try host.request(FakeConnection(sources: 1))
        let source = try work.add()
        work.scope.finish(nil)
        work.scope.released()
        #expect(host.open.count(.all) == 1 && host.service.counters.requestsOpen == 1)
        source.output.finish(nil)
        try #require(host.handler.requests.count == 1)
        #expect(host.open.count(.all) == 1)
        host.service.cancelAll()
        #expect(host.open.count(.all) == 0 && host.service.counters.requestsOpen == 0)
    }

    /// Two threads: one has found the request answered, another has released it meanwhile.
    @Test func `a release that is heard of before the answer leaves nothing behind`() throws {
        let host = try ManualService()
        let work = try host.request(FakeConnection())
        host.open.over(work.scope)
        #expect(host.open.count(.all) == 1 && host.service.counters.requestsOpen == 1)
        host.open.listed(work.scope)
        host.open.answered(work.scope, isOver: false)
        #expect(host.open.count(.all) == 0 && host.service.counters.requestsOpen == 0)
        // Both again: nothing is counted twice.
        host.open.over(work.scope)
        host.open.answered(work.scope, isOver: true)
        #expect(host.service.counters.requestsOpen == 0)
    }

    @Test func `requests are found by their service, generation and number, oldest first`() throws {
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
        #expect(host.open.count(.generation(id, through: old.number)) == 3)
        #expect(host.open.count(.generation(id, through: old.number + 1)) == 4)
        #expect(host.open.requests(.generation(id, through: old.number)).map(\.id) == works.map(\.scope.id))

        #expect(host.open.cancel(id: works[1].scope.id, reason: "by an operator"))
        #expect(works.map(\.cancelled) == [0, 1, 0] && new.cancelled == 0)
        works[1].scope.released()
        #expect(!host.open.cancel(id: works[1].scope.id, reason: nil))
        #expect(host.open.request(id: works[1].scope.id) == nil)
        #expect(host.open.request(id: works[0].scope.id) === works[0].scope)
        host.open.cancel(.generation(id, through: old.number), reason: nil)
        #expect(works.map(\.cancelled) == [1, 1, 1] && new.cancelled == 0)
    }

    @Test func `a request whose body is still coming belongs to the generation that it begins on`() throws {
        let host = try ManualService()
        let connection = FakeConnection(body: nil)
        try host.network.request(connection)
        let id = ObjectIdentifier(host.service)
        let old = host.service.update(configuration: .init(), handler: host.handler)
        #expect(host.open.count(.generation(id, through: old.number)) == 0)
        #expect(host.open.count(.generation(id, through: .max)) == 1 && host.open.count(.all) == 1)
        connection.receive([UInt8](repeating: 0, count: 8))
        #expect(host.handler.requests.count == 1)
        #expect(host.open.count(.generation(id, through: old.number)) == 0)
        #expect(host.open.count(.generation(id, through: old.number + 1)) == 1)
    }

    // MARK: Leases

    @Test func `an instance is leased while it is open, until the request is released`() throws {
        let host = try ManualService()
        let (first, second) = (try host.request(FakeConnection()), try host.request(FakeConnection()))
        #expect(!host.open.lease(7, generation: 3, for: first.scope))
        #expect(host.open.count(.lease(7)) == 0 && host.open.countByGeneration.isEmpty)
        host.open.open(lease: 7)
        host.open.open(lease: 8)
        #expect(host.open.lease(7, generation: 3, for: first.scope))
        #expect(host.open.count(.lease(7)) == 1 && host.open.count(.lease(8)) == 0)
        #expect(host.open.countByGeneration == [3: 1])
        host.open.close(lease: 7)
        #expect(!host.open.lease(7, generation: 3, for: second.scope))
        #expect(host.open.lease(8, generation: 4, for: second.scope))
        #expect(host.open.countByGeneration == [3: 1, 4: 1])
        first.scope.finish(nil)
        #expect(host.open.count(.lease(7)) == 1)
        first.scope.released()
        #expect(host.open.count(.lease(7)) == 0 && host.open.countByGeneration == [4: 1])
        host.open.open(lease: 7)
        #expect(host.open.lease(7, for: second.scope))
    }

    // MARK: Waits

    @Test func `a wait for what is not there ends at once`() async throws {
        let host = try ManualService()
        #expect(await host.open.wait(untilNone: .all, deadline: .soon) == 0)
        _ = try host.request(FakeConnection())
        #expect(await host.open.wait(untilNone: .lease(1), deadline: .soon) == 0)
    }

    @Test func `a wait ends at its deadline with the number that is left`() async throws {
        let host = try ManualService()
        for _ in 0..<3 { _ = try host.request(FakeConnection()) }
        let clock = host.network.clock
        let before = clock.scheduledCount
        async let left = host.open.wait(untilNone: .all, deadline: clock.now + .seconds(1))
        while clock.scheduledCount == before { await Task.yield() }
        clock.advance(by: .seconds(1))
        #expect(await left == 3)
    }

    @Test func `a wait ends with its task`() async throws {
        let host = try ManualService()
        _ = try host.request(FakeConnection())
        let wait = Task { await host.open.wait(untilNone: .all, deadline: .soon) }
        wait.cancel()
        #expect(await wait.value == 1)
    }

    @Test func `each wait ends with the last request that it is about`() async throws {
        let host = try ManualService()
        let works = try (0..<3).map { _ in try host.request(FakeConnection()) }
        host.open.open(lease: 1)
        #expect(host.open.lease(1, for: works[0].scope))
        #expect(host.open.lease(1, for: works[1].scope))
        async let leased = host.open.wait(untilNone: .lease(1), deadline: .soon)
        async let all = host.open.wait(untilNone: .all, deadline: .soon)
        for work in works.prefix(2) {
            work.scope.finish(nil)
            work.scope.released()
        }
        #expect(await leased == 0)
        #expect(host.open.count(.all) == 1)
        works[2].scope.released()
        works[2].scope.finish(nil)
        #expect(await all == 0)
    }

    // MARK: Deadlines

    @Test func `the body has its time`() throws {
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

    @Test func `a body that came in time ends its deadline`() throws {
        let host = try ManualService { $0.masterReadTimeout = .seconds(5) }
        let connection = FakeConnection()
        _ = try host.request(connection)
        host.network.clock.advance(by: .seconds(3_600))
        #expect(connection.end == nil && host.open.count(.all) == 1)
    }

    @Test func `an earlier deadline that comes later is kept, and the later one too`() throws {
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
        #expect(host.journal.all == [String](repeating: "request: deadline exceeded: the deadline of the request", count: 3))
        // It is the client's: it says nothing about the server.
        #expect(host.service.counters.failures == 0)
    }

    @Test func `the client's deadline ends the sources that it took, too`() throws {
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

    @Test func `nothing is scheduled again for a request that was answered and is not released`() throws {
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
        work.scope.released()
        #expect(host.open.count(.all) == 0)
    }

    @Test func `deadlines of many requests need few looks`() throws {
        let host = try ManualService { $0.chanAcceptTimeout = .seconds(30) }
        for _ in 0..<100 {
            let connection = FakeConnection(sources: 8)
            let work = try host.request(connection)
            for _ in 0..<8 { _ = try work.add() }
            host.network.clock.advance(by: .milliseconds(1))
        }
        #expect(host.network.clock.scheduledCount == 1)
    }

    @Test func `a function that names no source has its time, which it does not need while the client is full`() throws
    {
        let host = try ManualService { $0.sourcingTimeout = .seconds(5) }
        let silent = FakeConnection(sources: 1)
        let work = try host.request(silent)
        host.network.clock.advance(by: .seconds(4))
        // Each source gives it the time anew.
        _ = try work.add()
        host.network.clock.advance(by: .seconds(4))
        #expect(silent.end == nil)
        guard case .noRoom = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
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

    @Test func `a source that is not taken has its time, which begins anew when another one is taken`() throws {
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
        let error = "deadline exceeded: chan accept timeout: the client did not take the source in 30.0 seconds"
        #expect(connection.pushed[1].end == .aborted(error) && connection.pushed[2].end == .aborted(error))
        #expect(host.journal.all == ["source: \(error)", "source: \(error)"])
        #expect(sources.map(\.cancelled) == [0, 1, 0])
        #expect(connection.pushed[0].end == nil && host.service.counters.failures == 0)
        #expect(host.service.counters.sourcesWaiting == 0)
    }

    @Test func `a client that makes no room has its time, which begins anew with room`() throws {
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

    @Test func `each source that was taken has the serving time`() throws {
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
        // The client read too slowly, or the server was too slow: it is not known.
        #expect(host.service.counters.failures == 0 && host.service.counters.requestsOpen == 0)
    }
}
