import AstraNet
import Chanserv
import ChanservAstraNet
import ChanservHost
import Foundation
import Testing

@Suite(.timeLimit(.minutes(2))) struct HostLifeTests {
    // MARK: Shutdown

    @Test(arguments: Isolation.allCases)
    func `a shutdown lets streams end and accepts no new requests`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.host.start()
        try await fixture.withClient { client in
            let count = 400_000
            let running = try await client.source("stream", "stream \(count)")
            let shutdown = Task { await fixture.host.shutdown(drain: .seconds(60)) }
            await fixture.log.wait(for: "info stopping")
            var configuration = client.configuration
            configuration.dialTimeout = .milliseconds(300)
            let late = Client(multiplexer: client.multiplexer, configuration: configuration)
            await #expect(throws: ChanservError.self) {
                _ = try await late.lookupAndPost("stream", body: "stream 1")
            }
            #expect(try await running.expectStream(from: 0, count: count) == "v1")
            await shutdown.value
        }
        await fixture.expectLogged("destroyed v1", times: 1)
        #expect(fixture.log.count(of: "info stopped") == 1)
    }

    @Test(arguments: Isolation.allCases)
    func `a shutdown cancels the streams that run at its drain deadline`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.host.start()
        try await fixture.withClient { client in
            var frames = try await client.source("stream", "hold").frames.makeAsyncIterator()
            #expect(try await frames.next()?.string == "v1")
            await fixture.host.shutdown(drain: .milliseconds(50))
            await #expect(throws: ChanservError.self) { _ = try await frames.next() }
        }
        await fixture.expectLogged("destroyed v1", times: 1)
    }

    @Test(arguments: Isolation.allCases)
    func `cancelling a shutdown ends its drain at once`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure(routes: "- {vaddr: stream, plugin: a, drain: 1h}")
        try await fixture.host.start()
        try await fixture.withClient { client in
            var old = try await client.source("stream", "hold").frames.makeAsyncIterator()
            #expect(try await old.next()?.string == "v1")
            try fixture.install("v2")
            #expect(await fixture.host.reload().result == .changed)
            var new = try await client.source("stream", "hold").frames.makeAsyncIterator()
            #expect(try await new.next()?.string == "v2")
            let shutdown = Task { await fixture.host.shutdown(drain: .seconds(3600)) }
            await fixture.log.wait(for: "info stopping")
            shutdown.cancel()
            await shutdown.value
            await #expect(throws: ChanservError.self) { _ = try await old.next() }
            await #expect(throws: ChanservError.self) { _ = try await new.next() }
        }
        await fixture.expectLogged("destroyed v1", times: 1)
        await fixture.expectLogged("destroyed v2", times: 1)
    }

    @Test(arguments: Isolation.allCases)
    func `a stopped host refuses reloads and stops only once`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.host.start()
        async let first: Void = fixture.host.shutdown(drain: .zero)
        async let second: Void = fixture.host.shutdown(drain: .zero)
        _ = await (first, second)
        #expect(await fixture.host.reload().result == .refused)
        await fixture.expectLogged("destroyed v1", times: 1)
        await fixture.expectLogged("info stopped", times: 1)
    }

    @Test func `a shutdown during the start undoes it and does not wait for a create that hangs`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        let pipe = try fixture.makePipe()
        try fixture.configure(plugins: "a: {path: a.so, config: {fifo: pipe}}")
        let start = Task { () -> HostError? in
            do throws(HostError) {
                try await fixture.host.start()
                return nil
            } catch {
                return error
            }
        }
        await fixture.log.wait(for: "waiting at")
        await fixture.host.shutdown(drain: .zero)
        await fixture.expectLogged("info stopped", times: 1)
        await fixture.expectLogged("created", times: 0)
        // When `create` returns, its instance is destroyed and nothing is served.
        try pipe.release()
        #expect(await start.value?.problems == ["the host is stopping"])
        await fixture.expectLogged("created v1", times: 1)
        await fixture.expectLogged("destroyed v1", times: 1)
        #expect(fixture.log.count(of: "ready") == 0)
    }

    @Test func `instances in worker processes are created at the same time`() async throws {
        let fixture = try HostFixture(.process)
        try fixture.install("v1")
        let pipes = [try fixture.makePipe("one"), try fixture.makePipe("two")]
        try fixture.configure(
            routes: "- {vaddr: one, plugin: a, config: {fifo: one}}\n- {vaddr: two, plugin: a, config: {fifo: two}}")
        let start = Task { try await fixture.host.start() }
        // Neither `create` returns before its pipe is released.
        await fixture.log.wait(for: "waiting at", count: 2)
        for pipe in pipes { try pipe.release() }
        try await start.value
        #expect(await fixture.host.status.routes.map(\.vaddr) == ["one", "two"])
        await fixture.host.shutdown(drain: .zero)
    }

    @Test(.timeLimit(.minutes(2))) func `a host with many idle routes does not wait for its drain time`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.configure(routes: (0..<300).map { "- {vaddr: route\($0), plugin: a}" }.joined(separator: "\n"))
        try await fixture.host.start()
        await fixture.host.shutdown(drain: .seconds(3_600))
        await fixture.expectLogged("destroyed v1", times: 1)
    }

    // MARK: Concurrent reloads

    @Test(arguments: Isolation.allCases)
    func `reloads requested during a reload become exactly one more`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.serving { client in
            let pipe = try fixture.makePipe()
            try fixture.configure(plugins: "a: {path: a.so, config: {fifo: pipe}}")
            let first = Task { await fixture.host.reload() }
            await fixture.log.wait(for: "waiting at")
            // The reloads requested from now on read this file. The running reload does not.
            try fixture.configure(plugins: "a: {path: a.so, config: {label: last}}")
            let others = await fixture.host.reloads(10)
            try pipe.release()
            #expect(await first.value.generation == 2)
            for other in others { #expect(await other.value.generation == 3) }
            #expect(await fixture.host.status.reloads == HostStatus.Reloads(changed: 2, unchanged: 0, refused: 0))
            await fixture.expectLogged("created last", times: 1)
            #expect(try await client.version() == "v1")
        }
    }

    @Test func `a shutdown during a reload undoes the reload`() async throws {
        let fixture = try HostFixture()
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.host.start()
        let pipe = try fixture.makePipe()
        try fixture.configure(
            plugins: "a: {path: a.so, config: {label: first}}",
            routes: "- {vaddr: new, plugin: a}\n- {vaddr: stream, plugin: a, config: {fifo: pipe}}")
        let reload = Task { await fixture.host.reload() }
        await fixture.log.wait(for: "waiting at")
        let next = await fixture.host.reloads(1)
        let shutdown = Task { await fixture.host.shutdown(drain: .seconds(60)) }
        await fixture.log.wait(for: "info stopping")
        try pipe.release()
        #expect(await reload.value.result == .refused)
        for outcome in next { #expect(await outcome.value.reasons == ["the host is stopping"]) }
        await shutdown.value
        // The two new instances and the serving one are destroyed.
        await fixture.expectLogged("created first", times: 2)
        await fixture.expectLogged("destroyed first", times: 2)
        await fixture.expectLogged("destroyed v1", times: 1)
    }

    @Test(arguments: Isolation.allCases)
    func `a vAddr that cannot be bound undoes the reload`(isolation: Isolation) async throws {
        let node = Node()
        let multiplexer = RefusingMultiplexer(AstraNetMultiplexer(node))
        multiplexer.refuse("taken")
        let network = LocalHostNetwork(multiplexer)
        let fixture = try HostFixture(isolation) { _, _ in network }
        try fixture.install("v1")
        try fixture.configure()
        try await fixture.host.start()
        try fixture.install("v2")
        let routes = ["stream", "fine", "taken", "never"].map { "- {vaddr: \($0), plugin: a}" }
        try fixture.configure(routes: routes.joined(separator: "\n"))
        let outcome = await fixture.host.reload()
        #expect(outcome.result == .refused && outcome.generation == 1)
        #expect(outcome.reasons.count == 1 && outcome.reasons[0].contains("'taken'"))
        await fixture.expectLogged("created v2", times: 1)
        await fixture.expectLogged("destroyed v2", times: 1)
        #expect(await fixture.host.status.routes.map(\.vaddr) == ["stream"])
        // A name that was bound before the failure is free again.
        try node.bind("fine").close()
        await fixture.host.shutdown(drain: .zero)
        await node.shutdown()
    }

    // MARK: Error mass

    @Test(arguments: Isolation.allCases)
    func `a route that keeps failing is withdrawn and one success restores it`(isolation: Isolation) async throws {
        let fixture = try HostFixture(isolation)
        try fixture.install("v1")
        try fixture.configure(
            routes: "- {vaddr: stream, plugin: a, error_mass: {limit: 3, pause: 100ms, max_pause: 100ms}}")
        try await fixture.serving { client in
            for _ in 0..<3 {
                await #expect(throws: ChanservError.self) { _ = try await client.source("stream", "fail") }
            }
            await fixture.log.wait(for: "route 'stream' withdrawn for ")
            #expect(fixture.log.count(of: "after 3 failures in a row: ") == 1)
            // The host announces the route again after the pause. The client waits for it.
            try await client.stream(count: 1)
            // Further requests are served after the success of the probe.
            try await client.stream(count: 1)
            #expect(await fixture.host.status.routes.first?.errorMass == 0)
            #expect(await fixture.host.status.routes.first?.state == .serving)
        }
    }
}

extension HostFixture {
    /// A pipe on which the `create` of a streamer waits.
    struct Pipe {
        let path: String

        /// Lets `create` continue.
        func release() throws {
            let descriptor = open(path, O_WRONLY)
            try #require(descriptor >= 0)
            close(descriptor)
        }
    }

    func makePipe(_ name: String = "pipe") throws -> Pipe {
        let path = folder.file(name)
        try #require(mkfifo(path, 0o600) == 0)
        return Pipe(path: path)
    }
}

extension PluginHost {
    /// Requests `count` reloads and returns when all of them wait for a reload that has not begun.
    fileprivate func reloads(_ count: Int) async -> [Task<ReloadOutcome, Never>] {
        let tasks = (0..<count).map { _ in Task { await self.reload() } }
        while waiters.values.reduce(0, { $0 + $1.count }) < count { await Task.yield() }
        return tasks
    }
}
