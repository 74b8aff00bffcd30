import Chanserv
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// One request at the server and its sources.
@Suite(.timeLimit(.minutes(5))) struct RequestScopeTests {
    // MARK: The request

    @Test func `a body in pieces begins the request once, with the context of the client`() throws {
        let host = try ManualService()
        let context = RequestContext(meta: "m", bucket: "b", traceParent: "t", peerAddress: "1.2.3.4:5")
        let connection = FakeConnection(body: nil, context: context)
        try host.network.request(connection)
        connection.receive([3, 0, 0, 0])
        connection.receive([0, 0, 0, 0, 65, 66])
        #expect(host.handler.requests.isEmpty)
        connection.receive([67])
        connection.receive([1, 2, 3])
        #expect(host.handler.requests.count == 1)
        let request = try #require(host.handler.requests.first).request
        #expect(String(buffer: request.body) == "ABC" && request.vAddr == "svc")
        #expect(request.tags == [.meta: "m", .bucket: "b"] && request.context == context)
        #expect(request.remoteAddress == "client" && request.meta.localAddress == "server")
    }

    @Test func `a client that leaves before its body is complete ends the request`() throws {
        let host = try ManualService()
        let connection = FakeConnection(body: nil)
        try host.network.request(connection)
        connection.leave()
        #expect(connection.end == .closed && host.open.count(.all) == 0)
        #expect(host.handler.requests.isEmpty && host.journal.all.isEmpty)
    }

    @Test func `a body above the size limit fails the request and does not count as a failure`() throws {
        let host = try ManualService()
        let connection = FakeConnection(body: nil)
        try host.network.request(connection)
        connection.receive([UInt8](repeating: 0xFF, count: 8))
        guard case .failed(let message) = connection.end else {
            Issue.record("\(String(describing: connection.end))")
            return
        }
        #expect(message.hasPrefix("wrong frame size"))
        #expect(host.open.count(.all) == 0 && host.service.counters.failures == 0)
    }

    @Test func `a request whose client leaves while it waits for admission is not served`() throws {
        let host = try ManualService { $0.maxListingRequests = 1 }
        let first = try host.request(FakeConnection())
        let late = FakeConnection()
        #expect(try host.network.request(late) == .accepted)
        #expect(host.open.count(.all) == 1)
        late.closeByPeerSilently()
        first.scope.finish(nil)
        #expect(late.end == .closed && host.handler.requests.count == 1)
        let counters = host.service.counters
        #expect(counters.requestsOpen == 0 && counters.requestsTotal == 1 && counters.requestsRefused == 0)
    }

    @Test func `an error ends the request once, with the text that errorText returns`() throws {
        let host = try ManualService { $0.errorText = { "told: \($0)" } }
        let connection = FakeConnection()
        let work = try host.request(connection)
        work.scope.finish(TestError("secret"))
        work.scope.finish(TestError("again"))
        work.scope.finish(nil)
        #expect(connection.end == .failed("told: secret"))
        #expect(host.journal.all == ["request: source failed: secret"])
        #expect(host.service.counters.failures == 1)
        #expect(work.cancelled == 0)
    }

    @Test func `no source can be added to a request that has ended`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let work = try host.request(connection)
        host.service.cancelAll(reason: "maintenance")
        #expect(connection.end == .failed("maintenance") && work.cancelled == 1)
        guard case .ended = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
            Issue.record("a source was added")
            return
        }
        #expect(connection.pushed.isEmpty && !work.scope.attach(work))
        #expect(host.service.counters.sourcesTotal == 0)
    }

    @Test func `a handler that finds the client gone before the delegate is called counts as no failure`() throws {
        let host = try ManualService()
        for sources in [nil, 4] {
            let connection = FakeConnection(sources: sources)
            let work = try host.request(connection)
            connection.closeByPeerSilently()
            guard case .ended = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
                Issue.record("a source was added")
                return
            }
            // An asynchronous source function ends this way.
            work.scope.finish(CancellationError())
            work.scope.handlerFinished()
        }
        #expect(host.service.counters.failures == 0 && host.open.count(.all) == 0)
        #expect(host.journal.all.isEmpty && host.network.names == ["svc"])
    }

    @Test func `a source name that cannot be bound fails the request and leaves no source`() throws {
        let host = try ManualService()
        let connection = FakeConnection()
        let work = try host.request(connection)
        host.network.whenBinding { _ throws(ConnectionError) in throw ConnectionError(.limitReached, "no more names") }
        guard case .ended = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
            Issue.record("a source was added")
            return
        }
        #expect(connection.end == .failed("limit reached: announcing a source: no more names"))
        #expect(work.scope.sourceCounts == (0, 0) && host.service.counters.requestsOpen == 0)
        #expect(host.service.counters.failures == 1)
    }

    @Test(arguments: [nil, 4]) func `a header above the size limit fails the request`(sources: Int?) throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: sources)
        let work = try host.request(connection)
        let header = ByteBuffer(repeating: 0, count: FrameBatch.maxFrameSize + 1)
        guard case .ended = work.scope.add(header: header, { ManualSource($0) { _ in } }) else {
            Issue.record("a source was added")
            return
        }
        guard case .failed(let message) = connection.end else {
            Issue.record("\(String(describing: connection.end))")
            return
        }
        #expect(message.hasPrefix("wrong frame size"))
        #expect(connection.pushed.isEmpty && host.service.counters.requestsOpen == 0)
        #expect(host.network.names == ["svc"])
    }

    @Test func `sources beyond the limit wait until the client accepts or gives up another one`() throws {
        let host = try ManualService { $0.maxUnacceptedSources = 2 }
        let connection = FakeConnection(sources: 100)
        let work = try host.request(connection)
        _ = try (0..<2).map { _ in try work.add() }
        func isFull() -> Bool {
            guard case .grantExhausted = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
                return false
            }
            return true
        }
        #expect(isFull() && work.resumed == 0)
        connection.pushed[0].accept()
        #expect(work.resumed == 1)
        _ = try work.add()
        #expect(isFull())
        connection.pushed[1].leave()
        #expect(work.resumed == 2)
        _ = try work.add()
        #expect(isFull() && connection.pushed.count == 4)
    }

    // MARK: Status

    @Test func `the status of a request says what it waits for`() throws {
        let host = try ManualService()
        let connection = FakeConnection(body: nil, sources: 4)
        try host.network.request(connection)
        func status() -> OpenRequest? { host.open.requests().first?.status }
        #expect(status()?.state == .readingBody)
        connection.receive([UInt8](repeating: 0, count: 8))
        #expect(status()?.state == .waitingForSources)
        let work = try #require(host.handler.requests.first)
        let source = try work.add()
        #expect(status()?.state == .sending && status()?.sourcesOpen == 1)
        host.network.clock.advance(by: .seconds(3))
        work.scope.finish(nil)
        #expect(status()?.state == .waitingForClient)
        connection.pushed[0].accept()
        #expect(status()?.state == .sending)
        try source.send(100)
        #expect(status()?.frames == 1 && status()?.bytes == 108)
        connection.pushed[0].setRoom(false)
        try source.send(100)
        #expect(status()?.state == .waitingForClient)
        source.output.finish(nil)
        #expect(status()?.state == .ending && status()?.sourcesOpen == 0 && status()?.sourcesTotal == 1)
        #expect(status()?.age == .seconds(3) && status()?.client == "client" && status()?.vAddr == "svc")
        work.scope.handlerFinished()
        #expect(status() == nil)
    }

    // MARK: Pushed sources

    @Test func `a pushed source begins before it is accepted and sends at most its window`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4, window: 1_000)
        let source = try host.request(connection).add(header: "h")
        #expect(source.resumed == 1)
        #expect(source.output.encoding.batchSize == 1_000)
        #expect(try source.send(100) == .free)
        #expect(try source.send(900) == .full && source.output.room == .full)
        let pushed = connection.pushed[0]
        #expect(try pushed.frames.map(\.count) == [1, 100, 900])
        pushed.accept()
        #expect(source.resumed == 2 && source.output.room == .free)
        #expect(source.output.encoding.batchSize == 65_536)
        #expect(try source.send(5_000) == .free)
        source.output.finish(nil)
        #expect(pushed.end == .closed && source.cancelled == 0)
        #expect(host.service.counters.frames == 3)
    }

    @Test func `a source that is sent in full counts until the client accepts it`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let work = try host.request(connection)
        let source = try work.add()
        try source.send(10)
        source.output.finish(nil)
        work.scope.finish(nil)
        work.scope.handlerFinished()
        #expect(connection.pushed[0].end == .closed && connection.end == .closed)
        #expect(host.service.counters.sourcesWaiting == 1 && host.service.counters.requestsOpen == 1)
        connection.pushed[0].accept()
        #expect(host.service.counters.sourcesWaiting == 0 && host.open.count(.all) == 0)
        #expect(source.cancelled == 0 && host.service.counters.failures == 0)
    }

    /// The acceptance arrives while the source ends, before the delegate is called for it.
    @Test func `a source that ends while it is accepted ends once`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let work = try host.request(connection)
        let source = try work.add()
        connection.pushed[0].acceptSilently()
        source.output.finish(nil)
        #expect(connection.pushed[0].end == .closed)
        connection.pushed[0].changed()
        #expect(work.scope.sourceCounts == (0, 0))
        work.scope.finish(nil)
        work.scope.handlerFinished()
        #expect(host.open.count(.all) == 0)
    }

    @Test func `a source that fails before it is accepted counts as one failure when it ends`() throws {
        let host = try ManualService { $0.errorText = { "told: \($0)" } }
        // Accepted, given up, not accepted in time, ended by the server.
        for (index, end) in ["taken", "given up", "late", "stopped"].enumerated() {
            let connection = FakeConnection(sources: 4)
            let work = try host.request(connection)
            let source = try work.add()
            try source.send(10)
            source.output.finish(TestError("broken"))
            source.output.finish(nil)
            #expect(connection.pushed[0].end == .failed("told: broken"))
            #expect(host.journal.count("source: source failed: broken") == index + 1)
            #expect(host.service.counters.sourcesWaiting == 1)
            switch end {
            case "taken": connection.pushed[0].accept()
            case "given up": connection.pushed[0].leave()
            case "late": host.network.clock.advance(by: .seconds(30))
            default: host.service.cancelAll()
            }
            #expect(host.service.counters.failures == index + 1 && host.service.counters.sourcesWaiting == 0)
            #expect(source.cancelled == 0)
            work.scope.finish(nil)
            work.scope.handlerFinished()
            #expect(host.open.count(.all) == 0)
        }
    }

    @Test func `accepting a source that was sent in full restarts the accept timeout of the others`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 10)
        let work = try host.request(connection)
        let sources = try (0..<4).map { _ in try work.add() }
        for source in sources { source.output.finish(nil) }
        for pushed in connection.pushed.prefix(3) {
            host.network.clock.advance(by: .seconds(20))
            pushed.accept()
        }
        #expect(connection.pushed[3].end == .closed && host.journal.all.isEmpty)
        host.network.clock.advance(by: .seconds(31))
        #expect(host.journal.all.count == 1)
    }

    @Test func `a client that leaves ends its unaccepted sources, and the accepted ones continue`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let work = try host.request(connection)
        let sources = try (0..<4).map { _ in try work.add() }
        sources[2].output.finish(nil)
        connection.pushed[0].accept()
        // Accepted, but the delegate is called later.
        connection.pushed[3].acceptSilently()
        connection.leave()
        #expect(work.cancelled == 1 && sources.map(\.cancelled) == [0, 1, 0, 0])
        #expect([1, 2].allSatisfy { connection.pushed[$0].end == .aborted("the request has ended") })
        connection.pushed[3].changed()
        for index in [0, 3] {
            #expect(try sources[index].send(10) == .free)
            sources[index].output.finish(nil)
            #expect(connection.pushed[index].end == .closed)
        }
        work.scope.handlerFinished()
        #expect(host.open.count(.all) == 0 && host.service.counters.failures == 0)
    }

    @Test(arguments: [nil, "maintenance"])
    func `cancelling the service ends the accepted sources of a client that has left`(reason: String?) async throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let work = try host.request(connection)
        let source = try work.add()
        connection.pushed[0].accept()
        connection.leave()
        #expect(source.cancelled == 0)
        host.service.cancelAll(reason: reason)
        #expect(source.cancelled == 1 && work.cancelled == 1)
        #expect(connection.pushed[0].end == .aborted(reason ?? "the server stopped serving the source"))
        work.scope.handlerFinished()
        #expect(await host.service.drain(until: .testDeadline) == 0)
    }

    @Test func `a source whose client is gone accepts no frames and is cancelled once`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let source = try host.request(connection).add()
        let pushed = connection.pushed[0]
        pushed.accept()
        pushed.closeByPeerSilently()
        #expect(try source.send(10) == .ended)
        #expect(source.cancelled == 1 && pushed.end == .closed)
        pushed.changed()
        source.output.finish(CancellationError())
        #expect(source.output.room == .ended && source.cancelled == 1)
        #expect(host.service.counters.failures == 0 && host.journal.all.isEmpty)
    }

    // MARK: Bytes of unaccepted sources

    private static let mebibyte = 1 << 20

    @Test func `unaccepted sources hold one mebibyte, and further ones begin when sources are accepted`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 200)
        let work = try host.request(connection)
        let sources = try (0..<150).map { _ in
            try work.add { output in
                var batch = FrameBatch(target: output.encoding.batchSize)
                do {
                    while !batch.isFull { try batch.append([UInt8](repeating: 1, count: 1_000)) }
                } catch {
                    Issue.record("\(error)")
                }
                if output.room == .free { _ = output.write(&batch) }
            }
        }
        let begun = sources.count { $0.resumed > 0 }
        #expect(begun > 0 && begun < 150)
        let bytes = connection.pushed.map(\.writtenBytes).reduce(0, +)
        // The last source to begin adds up to its window.
        #expect(bytes >= Self.mebibyte - 65_536 && bytes < Self.mebibyte + 2 * 16_384)
        // Room on its connection alone does not begin a source.
        connection.pushed[148].changed()
        #expect(sources[148].resumed == 0)
        // A waiting source begins when it is accepted, whatever the others hold.
        connection.pushed[149].accept()
        #expect(sources[149].resumed == 1)
        // Accepted sources let others begin.
        for index in 0..<20 {
            let before = sources.count { $0.resumed > 0 }
            connection.pushed[index].accept()
            #expect(sources.count { $0.resumed > 0 } >= before)
        }
        #expect(sources.count { $0.resumed > 0 } >= begun + 15)
        // Sources that the client gives up let others begin too.
        let before = sources.count { $0.resumed > 0 }
        for index in 20..<25 { connection.pushed[index].leave() }
        #expect(sources.count { $0.resumed > 0 } > before)
    }

    /// The producers are asked for their first frames before any of them sends one. This happens if they run in tasks.
    @Test func `at most 16 sources produce their first frames at a time, whatever their size`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 200)
        let work = try host.request(connection)
        let sources = try (0..<100).map { _ in try work.add() }
        let begun = sources.filter { $0.resumed > 0 }
        #expect(begun.count == 16)
        for source in begun { #expect(try source.send(4 * Self.mebibyte) == .full) }
        #expect(sources.count { $0.resumed > 0 } == 16)
        // The others still hold more than one mebibyte, so no further source begins.
        connection.pushed[0].leave()
        #expect(sources.count { $0.resumed > 0 } == 16)
        for pushed in connection.pushed.prefix(16) { pushed.accept() }
        #expect(sources.count { $0.resumed > 0 } == 32)
        // Sources that end without a frame give their places back.
        for source in sources[16..<32] { source.output.finish(nil) }
        #expect(sources.count { $0.resumed > 0 } == 48)
    }

    @Test func `large headers count towards the limit until their sources are accepted`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 200)
        let work = try host.request(connection)
        let header = String(repeating: "h", count: Self.mebibyte / 4)
        for round in 0..<3 {
            let sources = try (0..<8).map { _ in try work.add(header: header) }
            // Three sources begin. The fourth header reaches the limit.
            #expect(sources.map { $0.resumed > 0 ? 1 : 0 }.reduce(0, +) == 3, "round \(round)")
            for index in (round * 8)..<(round * 8 + 8) { connection.pushed[index].accept() }
            #expect(sources.allSatisfy { $0.resumed > 0 })
            for source in sources { source.output.finish(nil) }
        }
        // No bytes are counted any more, so 16 sources begin.
        let sources = try (0..<20).map { _ in try work.add() }
        #expect(sources.count { $0.resumed > 0 } == 16)
    }

    // MARK: Named sources

    @Test func `a named source begins when it is dialled, and its name is unbound then`() throws {
        let host = try ManualService()
        let connection = FakeConnection()
        let work = try host.request(connection)
        let source = try work.add(header: "h")
        #expect(source.resumed == 0)
        let name = try #require(host.network.names.subtracting(["svc"]).first)
        #expect(try connection.frames == ["h", name])
        let fetched = FakeConnection(body: nil)
        #expect(try host.network.request(fetched, to: name) == .accepted)
        #expect(host.network.names == ["svc"])
        #expect(source.resumed > 0)
        #expect(try source.send(3) == .free)
        source.output.finish(nil)
        #expect(try fetched.frames.map(\.count) == [3] && fetched.end == .closed)
        work.scope.finish(nil)
        work.scope.handlerFinished()
        #expect(host.open.count(.all) == 0)
    }

    @Test func `unread announcements pause the listing and end the request at the master write timeout`() throws {
        let host = try ManualService { $0.masterWriteTimeout = .seconds(5) }
        let connection = FakeConnection()
        let work = try host.request(connection)
        connection.setRoom(false)
        let source = try work.add()
        guard case .grantExhausted = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
            Issue.record("a source was added")
            return
        }
        host.network.clock.advance(by: .seconds(4))
        connection.setRoom(true)
        #expect(work.resumed == 1)
        _ = try work.add()
        connection.setRoom(false)
        _ = try work.add()
        host.network.clock.advance(by: .seconds(5))
        #expect(connection.end == .aborted("deadline exceeded: announcing a source: master write timeout"))
        #expect(source.cancelled == 1 && host.network.names == ["svc"] && host.service.counters.failures == 0)
    }

    // MARK: Limits

    @Test func `requests beyond maxOpenRequests are refused; streaming and waiting requests count`() throws {
        let host = try ManualService { configuration in
            configuration.maxOpenRequests = 3
            configuration.maxListingRequests = 2
        }
        let streaming = FakeConnection(sources: 1)
        let first = try host.request(streaming)
        let source = try first.add()
        streaming.pushed[0].accept()
        first.scope.finish(nil)
        let listing = [try host.request(FakeConnection()), try host.request(FakeConnection())]
        let refused = DialAnswer.refused("busy: svc has reached its limit of 3 open requests")
        #expect(try host.network.request(FakeConnection()) == refused)
        // There is room again, but two requests are listing: the next one waits and counts.
        source.output.finish(nil)
        let waiting = FakeConnection()
        #expect(try host.network.request(waiting) == .accepted)
        #expect(host.service.counters.requestsOpen == 2)
        #expect(try host.network.request(FakeConnection()) == refused)
        #expect(host.service.counters.refused == VirtualService.Refusals(busy: 2))
        listing[0].scope.finish(nil)
        #expect(host.handler.requests.count == 4 && host.service.counters.requestsOpen == 2)
        host.service.stopAccepting()
        #expect(host.network.names.isEmpty)
    }

    /// Allows all callers or none, and counts the places that are taken.
    private final class Gate: RequestAdmission, Sendable {
        final class Place: AdmissionPlace {
            let gate: Gate
            private let hasEnded = NIOLockedValueBox(false)

            init(_ gate: Gate) {
                self.gate = gate
                gate.places.withLockedValue { $0 += 1 }
            }

            deinit { end() }

            func end() {
                let isFirst = hasEnded.withLockedValue { hasEnded in
                    defer { hasEnded = true }
                    return !hasEnded
                }
                if isFirst { gate.places.withLockedValue { $0 -= 1 } }
            }
        }

        let isOpen = NIOLockedValueBox(true)
        let places = NIOLockedValueBox(0)

        func isAllowed(_ caller: Caller) -> Bool { isOpen.withLockedValue { $0 } }

        func admit(_ caller: Caller, from address: String, now: ContinuousClock.Instant) -> Admission {
            places.withLockedValue { $0 } < 3
                ? .admitted(place: Place(self)) : .refused("busy: you have too many open requests")
        }
    }

    @Test func `a caller without permission or beyond its quota is refused, also after it has waited`() throws {
        let gate = Gate()
        let host = try ManualService {
            $0.maxListingRequests = 1
            $0.admission = gate
        }
        let first = try host.request(FakeConnection())
        let waiting = [FakeConnection(), FakeConnection()]
        for connection in waiting { #expect(try host.network.request(connection) == .accepted) }
        #expect(gate.places.withLockedValue { $0 } == 3)
        #expect(
            try host.network.request(FakeConnection()) == .refused("busy: you have too many open requests"))
        gate.isOpen.withLockedValue { $0 = false }
        let denied = "not allowed: you may not call svc"
        #expect(try host.network.request(FakeConnection()) == .refused(denied))
        first.scope.finish(nil)
        for connection in waiting { #expect(connection.end == .failed(denied)) }
        #expect(host.service.counters.refused == VirtualService.Refusals(denied: 3, quota: 1))
        #expect(host.service.counters.errorMass == 0)
        // Neither the ended nor the refused requests keep a place.
        #expect(gate.places.withLockedValue { $0 } == 0)
    }

    @Test func `requests that wait when the service stops are refused and counted`() throws {
        let host = try ManualService { $0.maxListingRequests = 1 }
        _ = try host.request(FakeConnection())
        let waiting = FakeConnection()
        try host.network.request(waiting)
        host.service.stopAccepting()
        #expect(waiting.end == .failed("busy: svc takes no requests at the moment"))
        #expect(host.service.counters.refused == VirtualService.Refusals(draining: 1))
        #expect(host.service.counters.requestsRefused == 1 && host.service.counters.requestsOpen == 1)
    }
}
