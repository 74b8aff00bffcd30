import Chanserv
import NIOCore
import Testing

/// The life of a service: error mass, updates and draining.
@Suite(.timeLimit(.minutes(5))) struct ServiceTests {
    private let journal = Journal()

    private func answers(_ text: String) -> SourceFunc {
        { _ in SourceList([Source(header: "", frames: [text])]) }
    }

    private func ask(_ pair: Pair, _ body: String = "") async throws -> String {
        let frames = try await pair.post(body).first().frames.collect()
        return String(decoding: frames.joined(), as: UTF8.self)
    }

    // MARK: Error mass

    private func failing(pause: Duration) -> Server.Configuration {
        var configuration = Server.Configuration()
        configuration.maxErrorMass = 3
        configuration.errorPause = pause
        configuration.onMaxErrorMass = { [journal] in journal.add("mass \($0): \($1.message)") }
        return configuration
    }

    @Test(arguments: Delivery.allCases)
    func `a service that fails every request is withdrawn, and a successful probe restores it`(
        over delivery: Delivery
    ) async throws {
        let broken = Journal()
        broken.add("yes")
        let network = try await TestNetwork.make(delivery)
        var configuration = failing(pause: .milliseconds(50))
        configuration.onMaxErrorMass = { [journal] in
            journal.add("mass \($0): \($1.message); still there: \(network.names)")
        }
        let pair = try Pair(on: network, configuration) { request in
            if broken.count("no") == 0 { throw TestError("broken") }
            return SourceList([Source(header: "", frames: ["fine"])])
        }
        for _ in 0..<3 { _ = await failure { try await ask(pair) } }
        try await journal.wait(for: "mass 3: broken; still there: []")
        // The dial waits until the name is bound again. Its request is the probe and fails.
        let probe = await failure { try await ask(pair) }
        #expect(probe?.message == "broken")
        try await journal.wait(for: "mass 4: broken; still there: []")
        #expect(pair.service.counters.errorMass == 4)

        broken.add("no")
        let answer = try await ask(pair)
        #expect(answer == "fine")
        #expect(await pair.idle() == 0)
        #expect(pair.service.state == .serving)
        #expect(pair.service.counters.errorMass == 0 && pair.service.counters.failures == 4)
        #expect(pair.network.names == ["svc"])
    }

    @Test(arguments: Delivery.allCases)
    func `a withdrawn service reports its state and unbinds its name`(over delivery: Delivery) async throws {
        var configuration = failing(pause: .seconds(3600))
        configuration.maxErrorMass = 1
        let pair = try await Pair(over: delivery, configuration) { _ in throw TestError("broken") }
        _ = await failure { try await ask(pair) }
        try await journal.wait(for: "mass 1: broken")
        guard case .withdrawn(let until) = pair.service.state else {
            Issue.record("not withdrawn but \(pair.service.state)")
            return
        }
        #expect(until > .now)
        #expect(pair.network.names.isEmpty)
        pair.service.stopAccepting()
        #expect(pair.service.state == .stopped)
    }

    @Test(arguments: Delivery.allCases)
    func `an update restores a withdrawn service only if it forgives failures`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, failing(pause: .seconds(3600))) { _ in throw TestError("broken") }
        for _ in 0..<3 { _ = await failure { try await ask(pair) } }
        try await journal.wait(for: "mass 3: broken")
        let withdrawn = pair.service.state
        pair.service.update(configuration: failing(pause: .seconds(3600)), sourceFunc: answers("new"))
        #expect(pair.service.state == withdrawn && pair.service.counters.errorMass == 3)
        pair.service.update(
            configuration: failing(pause: .seconds(3600)), sourceFunc: answers("new"), ignoresFailures: true)
        #expect(pair.service.state == .serving && pair.service.counters.errorMass == 0)
        // The dial waits until the name is bound again.
        let answer = try await ask(pair)
        #expect(answer == "new")
    }

    @Test(arguments: Delivery.allCases)
    func `other requests wait while one request probes`(over delivery: Delivery) async throws {
        let (gate, open) = AsyncThrowingStream<Int, any Error>.makeStream()
        let pair = try await Pair(over: delivery, failing(pause: .milliseconds(20))) { [journal] request in
            journal.add(String(buffer: request.body))
            if request.body.readableBytes == 0 { throw TestError("broken") }
            if String(buffer: request.body) == "probe" { for try await _ in gate {} }
            return SourceList([Source(header: "", frames: ["fine"])])
        }
        for _ in 0..<3 { _ = await failure { try await ask(pair) } }
        try await journal.wait(for: "mass 3: broken")
        async let probe = ask(pair, "probe")
        try await journal.wait(for: "probe")
        #expect(pair.service.state == .probing)
        async let other = ask(pair, "other")
        async let third = ask(pair, "third")
        open.finish()
        let answers = try await [probe, other, third]
        #expect(answers == ["fine", "fine", "fine"])
        let order = journal.all.filter { ["probe", "other", "third"].contains($0) }
        #expect(order.first == "probe")
    }

    @Test(arguments: Delivery.allCases)
    func `failed sources count once per request, and a success clears the error mass`(
        over delivery: Delivery
    ) async throws {
        let pair = try await Pair(over: delivery, failing(pause: .seconds(100))) { request in
            let good = request.body.readableBytes > 0
            return SourceList(
                (0..<5).map { _ in
                    Source(
                        header: "",
                        producer: TestProducer { batch in
                            try batch.append("x")
                            if !good { throw TestError("bad source") }
                            return false
                        })
                })
        }
        for round in 0..<3 {
            for count in 1...2 {
                for try await source in try await pair.post("") {
                    let error = await failure { try await source.frames.collect() }
                    #expect(error?.message == "bad source")
                }
                #expect(await pair.idle() == 0)
                #expect(pair.service.counters.errorMass == count)
            }
            for try await source in try await pair.post("good") { _ = try await source.frames.collect() }
            #expect(await pair.idle() == 0)
            #expect(pair.service.counters.errorMass == 0)
            #expect(pair.service.counters.failures == 2 * (round + 1))
        }
    }

    @Test(arguments: Delivery.allCases)
    func `errors that the client causes do not count as failures`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, failing(pause: .seconds(100))) { _ in
            throw TestError("no such file", countsAsFailure: false)
        }
        for _ in 0..<10 {
            let error = await failure { try await ask(pair) }
            #expect(error?.message == "no such file")
        }
        #expect(await pair.idle() == 0)
        #expect(pair.service.state == .serving && pair.service.counters.failures == 0)
        #expect(journal.all.isEmpty)
    }

    @Test(arguments: Delivery.allCases)
    func `a probe whose client leaves decides nothing, and the next request probes`(
        over delivery: Delivery
    ) async throws {
        let pair = try await Pair(over: delivery, failing(pause: .milliseconds(20))) { [journal] request in
            let body = String(buffer: request.body)
            journal.add(body)
            if body.isEmpty { throw TestError("broken") }
            if body == "leaves" { try await never() }
            return SourceList([Source(header: "", frames: ["fine"])])
        }
        for _ in 0..<3 { _ = await failure { try await ask(pair) } }
        try await journal.wait(for: "mass 3: broken")
        let leaving = try await pair.post("leaves")
        try await journal.wait(for: "leaves")
        leaving.cancel()
        let answer = try await ask(pair, "next")
        #expect(answer == "fine")
        #expect(await pair.idle() == 0)
        #expect(pair.service.state == .serving && pair.service.counters.errorMass == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `an endless probe succeeds with its first frames`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, failing(pause: .milliseconds(20))) { [journal] request in
            if request.body.readableBytes == 0 { throw TestError("broken") }
            return SourceList([Source(header: "", producer: TestProducer.endless(journal))])
        }
        for _ in 0..<3 { _ = await failure { try await ask(pair) } }
        try await journal.wait(for: "mass 3: broken")
        let endless = try await pair.post("endless").first()
        let second = try await pair.post("endless").first()
        var frames = second.frames.makeAsyncIterator()
        let frame = try await frames.next()
        #expect(frame?.count == 1000)
        #expect(pair.service.state == .serving)
        endless.cancel()
    }

    // MARK: Updates

    @Test(arguments: Delivery.allCases)
    func `an update serves new requests and leaves open ones running`(over delivery: Delivery) async throws {
        let (stream, feed) = AsyncThrowingStream<String, any Error>.makeStream()
        let pair = try await Pair(over: delivery) { _ in SourceList([Source(header: "", frames: stream)]) }
        var old = try await pair.post().first().frames.makeAsyncIterator()
        feed.yield("old 1")
        _ = try await old.next()

        var configuration = Server.Configuration()
        configuration.compression = true
        let generation = pair.service.update(configuration: configuration, sourceFunc: answers("new"))
        #expect(pair.service.configuration.compression)
        let answer = try await ask(pair)
        #expect(answer == "new")
        feed.yield("old 2")
        let second = try await old.next()
        #expect(second?.string == "old 2")

        async let drained = pair.service.drain(generation, until: .testDeadline)
        feed.finish()
        let end = try await old.next()
        #expect(end == nil)
        #expect(await drained == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `no request fails while the service is updated under load`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery, Server.Configuration(), sourceFunc(0))
        let seen = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    var last = 0
                    for _ in 0..<100 {
                        let answer = try await ask(pair)
                        let parts = Set(answer.split(separator: ","))
                        guard parts.count == 1, let version = parts.first.flatMap({ Int($0) }), version >= last else {
                            return false
                        }
                        last = version
                    }
                    return true
                }
            }
            for version in 1...100 {
                pair.service.update(configuration: Server.Configuration(), sourceFunc: sourceFunc(version))
                await Task.yield()
            }
            return try await group.reduce(true) { $0 && $1 }
        }
        #expect(seen)
        let answer = try await ask(pair)
        #expect(answer.hasPrefix("100,"))
        #expect(await pair.idle() == 0)
    }

    private func sourceFunc(_ version: Int) -> SourceFunc {
        { _ in SourceList([Source(header: "", frames: (0..<20).map { _ in "\(version)," })]) }
    }

    // MARK: Draining

    @Test(arguments: Delivery.allCases)
    func `drain waits for open requests and cancels them at its deadline`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal))])
        }
        let source = try await pair.post().first()
        try await journal.wait(for: "source polled")
        pair.service.stopAccepting()
        pair.service.stopAccepting()
        #expect(pair.service.state == .stopped && pair.network.names.isEmpty)
        #expect(journal.count("source closed") == 0)
        #expect(await pair.service.drain(until: .now + .milliseconds(50), grace: .seconds(120)) == 0)
        #expect(journal.count("source closed") == 1)
        let error = await failure { try await source.frames.collect() }
        #expect(error?.code == .sourceFailed && error?.message.contains("stopped") == true)
        #expect(pair.service.counters.failures == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `cancelling a drain cancels the open requests at once`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal))])
        }
        let source = try await pair.post().first()
        try await journal.wait(for: "source polled")
        let drain = Task { await pair.service.drain(until: .now + .seconds(3600), grace: .seconds(120)) }
        drain.cancel()
        #expect(await drain.value == 0)
        #expect(journal.count("source closed") == 1)
        source.cancel()
    }

    @Test(arguments: Delivery.allCases)
    func `draining a generation leaves newer ones running`(over delivery: Delivery) async throws {
        let pair = try await Pair(over: delivery) { [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal, "old"))])
        }
        let old = try await pair.post().first()
        try await journal.wait(for: "old polled")
        let generation = pair.service.update(configuration: .init()) { [journal] _ in
            SourceList([Source(header: "", producer: TestProducer.silent(journal, "new"))])
        }
        let new = try await pair.post().first()
        try await journal.wait(for: "new polled")
        #expect(await pair.service.drain(generation, until: .now, grace: .seconds(120)) == 0)
        #expect(journal.count("old closed") == 1 && journal.count("new closed") == 0)
        let counters = pair.service.counters
        // The acceptance of the client reaches the server a little later.
        #expect(counters.sourcesOpen + counters.sourcesWaiting == 1)
        old.cancel()
        new.cancel()
        #expect(await pair.idle() == 0)
    }

    @Test(arguments: Delivery.allCases)
    func `a service stops when its network is shut down`(over delivery: Delivery) async throws {
        var configuration = Server.Configuration()
        configuration.onError = { [journal] in journal.add("\($0.code)") }
        let pair = try await Pair(over: delivery, configuration, answers("x"))
        _ = try await ask(pair)
        await pair.network.shutDown()
        try await journal.wait(for: "cancelled")
        #expect(pair.service.state == .stopped)
        #expect { try pair.network.server.listen("other") } throws: {
            ($0 as? ConnectionError)?.code == .closed
        }
    }
}
