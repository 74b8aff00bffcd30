import NIOCore
import Testing

@testable import Chanserv

/// One request at the server, with its sources.
@Suite(.timeLimit(.minutes(5))) struct RequestScopeTests {
    // MARK: The request

    @Test func `a body in pieces begins the request once, with what the client said`() throws {
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

    @Test func `a client that leaves before its body came ends the request`() throws {
        let host = try ManualService()
        let connection = FakeConnection(body: nil)
        try host.network.request(connection)
        connection.leave()
        #expect(connection.end == .closed && host.open.count(.all) == 0)
        #expect(host.handler.requests.isEmpty && host.journal.all.isEmpty)
    }

    @Test func `a body that is too large fails the request and is no failure of the service`() throws {
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

    @Test func `a request whose client left while it waited to be let in is not served`() throws {
        let host = try ManualService { $0.maxConcurrentRequests = 1 }
        let first = try host.request(FakeConnection())
        let late = FakeConnection()
        #expect(try host.network.request(late) == .accepted)
        #expect(host.open.count(.all) == 1)
        late.leaveSilently()
        first.scope.finish(nil)
        #expect(late.end == .closed && host.handler.requests.count == 1)
        let counters = host.service.counters
        #expect(counters.requestsOpen == 0 && counters.requestsTotal == 1 && counters.requestsRefused == 0)
    }

    @Test func `an error ends the request once, with the text that the server chooses`() throws {
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

    @Test func `nothing is added to a request that has ended`() throws {
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

    @Test func `code that finds the client gone before the network says so counts as no failure`() throws {
        let host = try ManualService()
        for sources in [nil, 4] {
            let connection = FakeConnection(sources: sources)
            let work = try host.request(connection)
            connection.leaveSilently()
            guard case .ended = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
                Issue.record("a source was added")
                return
            }
            // What an asynchronous source function does then.
            work.scope.finish(CancellationError())
            work.scope.released()
        }
        #expect(host.service.counters.failures == 0 && host.open.count(.all) == 0)
        #expect(host.journal.all.isEmpty && host.network.names == ["svc"])
    }

    @Test func `a name that cannot be bound fails the request, and nothing is left of the source`() throws {
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

    @Test(arguments: [nil, 4]) func `a header that is too large fails the request`(sources: Int?) throws {
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

    @Test func `more sources than allowed wait, and each that is taken or ends makes room`() throws {
        let host = try ManualService { $0.maxUnacceptedSources = 2 }
        let connection = FakeConnection(sources: 100)
        let work = try host.request(connection)
        _ = try (0..<2).map { _ in try work.add() }
        func isFull() -> Bool {
            guard case .noRoom = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
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

    @Test func `status says what a request waits for`() throws {
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
        work.scope.released()
        #expect(status() == nil)
    }

    // MARK: Pushed sources

    @Test func `a pushed source begins before it is taken, and sends no more than its window`() throws {
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

    @Test func `a source that was sent in full counts until the client takes it`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let work = try host.request(connection)
        let source = try work.add()
        try source.send(10)
        source.output.finish(nil)
        work.scope.finish(nil)
        work.scope.released()
        #expect(connection.pushed[0].end == .closed && connection.end == .closed)
        #expect(host.service.counters.sourcesWaiting == 1 && host.service.counters.requestsOpen == 1)
        connection.pushed[0].accept()
        #expect(host.service.counters.sourcesWaiting == 0 && host.open.count(.all) == 0)
        #expect(source.cancelled == 0 && host.service.counters.failures == 0)
    }

    /// The acceptance comes while the source ends, before the source has been told of it.
    @Test func `a source that ends as it is taken ends once`() throws {
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
        work.scope.released()
        #expect(host.open.count(.all) == 0)
    }

    @Test func `a source that failed before it was taken counts as one failure when it ends`() throws {
        let host = try ManualService { $0.errorText = { "told: \($0)" } }
        // Taken, given up, not taken in time, ended by the server.
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
            work.scope.released()
            #expect(host.open.count(.all) == 0)
        }
    }

    @Test func `a source that was sent in full and is taken gives the others their accept time anew`() throws {
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

    @Test func `a client that leaves ends the sources that it has not taken, and those that it took go on`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let work = try host.request(connection)
        let sources = try (0..<4).map { _ in try work.add() }
        sources[2].output.finish(nil)
        connection.pushed[0].accept()
        // Taken, which is about to be said.
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
        work.scope.released()
        #expect(host.open.count(.all) == 0 && host.service.counters.failures == 0)
    }

    @Test(arguments: [nil, "maintenance"])
    func `the sources that a client took before it left are ended with the service`(reason: String?) async throws {
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
        work.scope.released()
        #expect(await host.service.drain(until: .soon) == 0)
    }

    @Test func `a source whose client has gone takes no frames and is cancelled once`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 4)
        let source = try host.request(connection).add()
        let pushed = connection.pushed[0]
        pushed.accept()
        pushed.leaveSilently()
        #expect(try source.send(10) == .ended)
        #expect(source.cancelled == 1 && pushed.end == .closed)
        pushed.changed()
        source.output.finish(CancellationError())
        #expect(source.output.room == .ended && source.cancelled == 1)
        #expect(host.service.counters.failures == 0 && host.journal.all.isEmpty)
    }

    // MARK: Bytes of sources that were not taken

    private static let mebibyte = 1 << 20

    @Test func `sources that were not taken hold one mebibyte, and the others begin when they are taken`() throws {
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
        // A source that is the last to begin brings its window along.
        #expect(bytes >= Self.mebibyte - 65_536 && bytes < Self.mebibyte + 2 * 16_384)
        // Room alone is no reason to begin.
        connection.pushed[148].changed()
        #expect(sources[148].resumed == 0)
        // One that waits and is taken begins, whatever the others hold.
        connection.pushed[149].accept()
        #expect(sources[149].resumed == 1)
        // Each that is taken lets another one begin.
        for index in 0..<20 {
            let before = sources.count { $0.resumed > 0 }
            connection.pushed[index].accept()
            #expect(sources.count { $0.resumed > 0 } >= before)
        }
        #expect(sources.count { $0.resumed > 0 } >= begun + 15)
        // So does one that the client gives up.
        let before = sources.count { $0.resumed > 0 }
        for index in 20..<25 { connection.pushed[index].leave() }
        #expect(sources.count { $0.resumed > 0 } > before)
    }

    /// Producers are asked for their first frames before any of them has sent one, as tasks are.
    @Test func `few sources make their first frames at a time, however large these are`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 200)
        let work = try host.request(connection)
        let sources = try (0..<100).map { _ in try work.add() }
        let begun = sources.filter { $0.resumed > 0 }
        #expect(begun.count == 16)
        for source in begun { #expect(try source.send(4 * Self.mebibyte) == .full) }
        #expect(sources.count { $0.resumed > 0 } == 16)
        // Silent ones give their place back when they end.
        connection.pushed[0].leave()
        #expect(sources.count { $0.resumed > 0 } == 16)
        for pushed in connection.pushed.prefix(16) { pushed.accept() }
        #expect(sources.count { $0.resumed > 0 } == 32)
        for source in sources[16..<32] { source.output.finish(nil) }
        #expect(sources.count { $0.resumed > 0 } == 48)
    }

    @Test func `large headers count, and are given back when their sources are taken`() throws {
        let host = try ManualService()
        let connection = FakeConnection(sources: 200)
        let work = try host.request(connection)
        let header = String(repeating: "h", count: Self.mebibyte / 4)
        for round in 0..<3 {
            let sources = try (0..<8).map { _ in try work.add(header: header) }
            // Sources begin until four headers are there; then no more do.
            #expect(sources.map { $0.resumed > 0 ? 1 : 0 }.reduce(0, +) == 3, "round \(round)")
            for index in (round * 8)..<(round * 8 + 8) { connection.pushed[index].accept() }
            #expect(sources.allSatisfy { $0.resumed > 0 })
            for source in sources { source.output.finish(nil) }
        }
        // Nothing is counted any more: as many begin as at first.
        let sources = try (0..<20).map { _ in try work.add() }
        #expect(sources.count { $0.resumed > 0 } == 16)
    }

    // MARK: Named sources

    @Test func `a named source begins when it is fetched, under a name that is then free`() throws {
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
        work.scope.released()
        #expect(host.open.count(.all) == 0)
    }

    @Test func `announcements that the client does not read hold the listing back`() throws {
        let host = try ManualService { $0.masterWriteTimeout = .seconds(5) }
        let connection = FakeConnection()
        let work = try host.request(connection)
        connection.setRoom(false)
        let source = try work.add()
        guard case .noRoom = work.scope.add(header: ByteBuffer(), { ManualSource($0) { _ in } }) else {
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

    @Test func `open requests are refused at their limit before they are accepted, also those that stream`() throws {
        let host = try ManualService { configuration in
            configuration.maxOpenRequests = 3
            configuration.maxConcurrentRequests = 2
        }
        let streaming = FakeConnection(sources: 1)
        let first = try host.request(streaming)
        let source = try first.add()
        streaming.pushed[0].accept()
        first.scope.finish(nil)
        let listing = [try host.request(FakeConnection()), try host.request(FakeConnection())]
        let refused = Admission.refused("busy: svc has reached its limit of 3 open requests")
        #expect(try host.network.request(FakeConnection()) == refused)
        // There is room again, but two are listed: the next one waits, and counts.
        source.output.finish(nil)
        let waiting = FakeConnection()
        #expect(try host.network.request(waiting) == .accepted)
        #expect(host.service.counters.requestsOpen == 2)
        #expect(try host.network.request(FakeConnection()) == refused)
        #expect(host.service.counters.requestsRefused == 2)
        listing[0].scope.finish(nil)
        #expect(host.handler.requests.count == 4 && host.service.counters.requestsOpen == 2)
        host.service.stopAccepting()
        #expect(host.network.names.isEmpty)
    }

    @Test func `requests that wait when the service stops are refused and counted`() throws {
        let host = try ManualService { $0.maxConcurrentRequests = 1 }
        _ = try host.request(FakeConnection())
        let waiting = FakeConnection()
        try host.network.request(waiting)
        host.service.stopAccepting()
        #expect(waiting.end == .failed("busy: svc takes no requests at the moment"))
        #expect(host.service.counters.requestsRefused == 1 && host.service.counters.requestsOpen == 1)
    }
}
