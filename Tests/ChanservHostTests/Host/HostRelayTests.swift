import Chanserv
import ChanservAstraNet
import ChanservHost
import Foundation
import NIOCore
import TestSupport
import Testing

/// Requests that the host relays to a worker, and their answers.
@Suite("Worker relay", .timeLimit(.minutes(2))) struct HostRelayTests {
    /// Runs `body` while a host serves the probe in one worker process at the vAddr `stream`.
    private func serving(
        route: String = "{vaddr: stream, plugin: a, error_mass: {limit: 1000}}",
        _ body: (HostFixture, Client) async throws -> Void
    ) async throws {
        let fixture = try HostFixture(.process)
        try CompiledPlugin.compile(
            probeSource, to: fixture.folder.file("a.so"), options: ["-DFLAGS=0", "-DVERSION=\"1\""])
        try fixture.configure(routes: "- \(route)")
        try await fixture.serving { client in try await body(fixture, client) }
    }

    private func counters(_ fixture: HostFixture) async throws -> HostStatus.Route {
        try #require(await fixture.host.status.routes.first)
    }

    /// Waits until no request is open in the host or, according to the host, in the worker.
    private func idle(_ fixture: HostFixture) async throws {
        try await eventually {
            let status = await fixture.host.status
            return status.plugins.allSatisfy { $0.callsOpen == 0 && $0.workers.allSatisfy { $0.requestsOpen == 0 } }
                && status.routes.allSatisfy { $0.requestsOpen == 0 }
        }
    }

    /// Waits until `count` requests are open.
    private func open(_ count: Int, _ fixture: HostFixture) async throws {
        try await eventually { await fixture.host.status.plugins.first?.callsOpen == count }
    }

    /// Waits until the worker's plugin has closed all requests, and returns its counts. A request ends later in the
    /// worker than in the host.
    private func closed(_ client: Client) async throws -> [String: Int] {
        var counts: [String: Int] = [:]
        try await eventually {
            counts = try await self.counts(client)
            // This request itself is open.
            return counts["closes"]! + 1 >= counts["opens"]!
        }
        return counts
    }

    /// The counts of the probe.
    private func counts(_ client: Client) async throws -> [String: Int] {
        let source = try await client.source("stream", "stats")
        var frames = source.frames.makeAsyncIterator()
        let text = try #require(try await frames.next()).string
        let pairs = text.split(separator: " ").map { $0.split(separator: "=") }
        return Dictionary(uniqueKeysWithValues: pairs.map { (String($0[0]), Int($0[1]) ?? -1) })
    }

    private func error(_ client: Client, _ command: String) async -> ChanservError? {
        await #expect(throws: ChanservError.self) {
            for try await source in try await client.lookupAndPost("stream", body: command) {
                for try await _ in source.frames {}
            }
        }
    }

    private func numbers(_ source: ReceivedSource, _ count: Int) async throws {
        var index = 0
        for try await frame in source.frames {
            if frame.string != "\(index)" { try #require(frame.string == "\(index)") }
            index += 1
        }
        #expect(index == count)
    }

    @Test func `a refusal keeps its message, and its code decides whether it counts as a failure`() async throws {
        try await serving { fixture, client in
            for (code, counts) in [(-1, false), (-2, false), (-3, true), (-4, true), (-99, true)] {
                let before = try await counters(fixture).failures
                let refusal = await error(client, "refuse \(code)")
                #expect(refusal?.code == .sourceFailed)
                #expect(refusal?.message.hasPrefix("refused stream from ") == true, "\(refusal as Any)")
                try await idle(fixture)
                #expect(try await counters(fixture).failures == before + (counts ? 1 : 0), "\(code)")
            }
        }
    }

    @Test func `a source error arrives after its frames, and its code decides whether it is a failure`() async throws {
        try await serving { fixture, client in
            for (code, counts) in [(-1, false), (-2, false), (-3, true), (-4, true)] {
                let before = try await counters(fixture).failures
                var frames = try await client.source("stream", "status \(code)").frames.makeAsyncIterator()
                #expect(try await frames.next()?.string == "before")
                let error = await #expect(throws: ChanservError.self) { _ = try await frames.next() }
                #expect(error?.message == "told to answer \(code)")
                try await idle(fixture)
                #expect(try await counters(fixture).failures == before + (counts ? 1 : 0), "\(code)")
            }
        }
    }

    @Test func `a listing that fails after a source ends with the plugin's error`() async throws {
        try await serving { fixture, client in
            var sources = try await client.lookupAndPost("stream", body: "failsources -3").makeAsyncIterator()
            let source = try #require(try await sources.next())
            let error = await #expect(throws: ChanservError.self) { _ = try await sources.next() }
            #expect(error?.message == "no more sources")
            for try await _ in source.frames {}
            try await idle(fixture)
            #expect(try await counters(fixture).failures == 1)
        }
    }

    @Test(arguments: [true, false])
    func `the host counts relayed frames, sources and requests`(acceptsPushedSources: Bool) async throws {
        try await serving { fixture, client in
            var configuration = client.configuration
            configuration.acceptsPushedSources = acceptsPushedSources
            let client = Client(multiplexer: client.multiplexer, configuration: configuration)
            try await numbers(client.source("stream", "frames 100000"), 100_000)
            var headers: [String] = []
            for try await source in try await client.lookupAndPost("stream", body: "sources 300") {
                var frames = source.frames.makeAsyncIterator()
                #expect(try await frames.next()?.string == "frame of \(headers.count)")
                let end = try await frames.next()
                #expect(end == nil)
                headers.append(String(buffer: source.header))
            }
            #expect(headers == (0..<300).map { "source \($0)" })
            try await idle(fixture)
            let counters = try await counters(fixture)
            #expect(counters.requestsTotal == 2 && counters.sourcesTotal == 301)
            #expect(counters.frames == 100_300)
            #expect(counters.failures == 0 && counters.sourcesOpen == 0 && counters.sourcesWaiting == 0)
        }
    }

    @Test(arguments: [32_700, 32_768, 60_000, 70_000, 5 << 20])
    func `a body of any size reaches the worker`(size: Int) async throws {
        try await serving { fixture, client in
            let command = "frames 3 "
            let body = command + String(repeating: " ", count: size - command.utf8.count)
            try await numbers(client.source("stream", body), 3)
            try await idle(fixture)
        }
    }

    @Test func `the worker's plugin gets the context of the request`() async throws {
        try await serving { _, client in
            let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            let sources = try await client.lookupAndPost(
                "stream", body: "context", tags: [.meta: "about", .bucket: "7"], deadline: .now + .seconds(3_000),
                traceParent: trace)
            var iterator = sources.makeAsyncIterator()
            let source = try #require(try await iterator.next())
            var frames = source.frames.makeAsyncIterator()
            let text = try #require(try await frames.next()).string
            #expect(text.hasPrefix("96 soon about|7|\(trace)|127.0.0.1:"), "\(text)")
            #expect(text.hasSuffix("||stream|0"), "\(text)")
        }
    }

    // MARK: - Flow control

    @Test func `a source that the client does not read blocks no other source of the worker`() async throws {
        try await serving { fixture, client in
            let unread = try await client.source("stream", "frames 1000000000")
            for _ in 0..<3 { try await numbers(client.source("stream", "frames 200000"), 200_000) }
            unread.cancel()
            try await idle(fixture)
            #expect(try await counts(client)["violations"] == 0)
        }
    }

    // MARK: - Cancellation

    @Test func `a source that the client gives up is cancelled and closed in the worker`() async throws {
        try await serving { fixture, client in
            for command in ["never", "frames 1000000000", "block"] {
                let source = try await client.source("stream", command)
                source.cancel()
                try await idle(fixture)
            }
            let counts = try await closed(client)
            #expect(counts["source_cancels"] == 3)
            #expect(counts["violations"] == 0)
            #expect(try await counters(fixture).failures == 0)
        }
    }

    @Test func `a listing that the client gives up is cancelled and closed in the worker`() async throws {
        try await serving { fixture, client in
            let sources = try await client.lookupAndPost("stream", body: "sourceless")
            try await open(1, fixture)
            sources.cancel()
            try await idle(fixture)
            let counts = try await closed(client)
            #expect(counts["violations"] == 0)
            #expect(try await counters(fixture).failures == 0)
        }
    }

    @Test func `a drain ends the open requests of a worker at its deadline with the reason`() async throws {
        try await serving(route: "{vaddr: stream, plugin: a, drain: 50ms}") { fixture, client in
            let held = try await client.source("stream", "never")
            let endless = try await client.source("stream", "frames 1000000000")
            let listing = try await client.lookupAndPost("stream", body: "sourceless")
            try await open(3, fixture)
            let outcome = try await fixture.host.drain("stream")
            #expect(outcome.result == .drained)
            #expect(outcome.cancelled > 0)
            for source in [held, endless] {
                let error = await #expect(throws: ChanservError.self) { for try await _ in source.frames {} }
                #expect(error?.message.contains("its time for that is over") == true, "\(error as Any)")
            }
            await #expect(throws: ChanservError.self) { for try await _ in listing {} }
            try await idle(fixture)
            try await fixture.host.enable("stream")
            let counts = try await closed(client)
            #expect(counts["violations"] == 0)
        }
    }

    // MARK: - The end of the process

    @Test func `a killed worker fails its requests with the crash error and counts as one failure`() async throws {
        try await serving { fixture, client in
            let held = try await client.source("stream", "never")
            let endless = try await client.source("stream", "frames 1000000000")
            let listing = try await client.lookupAndPost("stream", body: "sourceless")
            try await open(3, fixture)
            let process = try #require(await fixture.host.status.plugins.first?.workers.first?.pid)
            try #require(kill(process, SIGKILL) == 0)
            for source in [held, endless] {
                let error = await #expect(throws: ChanservError.self) { for try await _ in source.frames {} }
                #expect(error?.code == .sourceFailed)
                #expect(error?.message.contains("plugin a ended: ") == true, "\(error as Any)")
            }
            let error = await #expect(throws: ChanservError.self) { for try await _ in listing {} }
            #expect(error?.message.contains("plugin a ended: ") == true, "\(error as Any)")
            try await idle(fixture)
            // The host counts the end of the process before it starts another one, which this request waits for.
            try await numbers(client.source("stream", "frames 3"), 3)
            // One failure for the process, however many requests it ended.
            #expect(try await counters(fixture).failures == 1)
        }
    }
}
