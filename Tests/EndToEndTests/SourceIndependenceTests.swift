import Chanserv
import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// Sources do not block each other, and abandoned ones are released.
    @Suite(.serialized, .timeLimit(.minutes(2))) struct SourceIndependence {
        /// A configuration without a timeout that could release a source during a test.
        private static let configuration = """
            node: {listen: 127.0.0.1:0}
            defaults: {timeouts: {chan_accept: 1h}}
            plugins:
              drill: {path: drill.so}
            routes:
              - {vaddr: drill, plugin: drill}
            """

        @Test(arguments: Isolation.allCases)
        func `a source that is not read leaves the other sources whole`(isolation: Isolation) async throws {
            // `Isolation.applied(to:)` cannot be used, because the configuration has `defaults`.
            let configuration = Self.configuration.replacingOccurrences(
                of: "defaults: {", with: "defaults: {isolation: \(isolation.rawValue), ")
            try await ServedHost.serving(configuration) { host in
                try await host.withClient { client in
                    var sources = try await client.sources(
                        "drill", "count 2000 1000\nforever 1000 unread\ncount 2000 1000")
                    try #require(sources.count == 3)
                    for index in [2, 0] {
                        #expect(try version(of: await sources[index].frames.all(), count: 2000, size: 1000) == 0)
                    }
                    // The second source was never read. Dropping it releases it.
                    sources = []
                    let report = try await client.report("drill", "idle")
                    #expect(report["open_calls"] == 0 && report["open_sources"] == 0)
                    #expect(report["sources"] == 3)
                }
            }
        }

        @Test func `an endless source that is not read costs the host no more than its window`() async throws {
            try await ServedHost.serving(Self.configuration) { host in
                try await host.withClient { client in
                    let figures = ProcessFigures(host.process.pid)
                    func readOthers() async throws {
                        let sources = try await client.sources("drill", "count 200 100000\ncount 200 100000")
                        for source in sources {
                            #expect(try version(of: await source.frames.all(), count: 200, size: 100_000) == 0)
                        }
                    }
                    // The memory of a busy host.
                    try await readOthers()
                    let before = try figures.peakMemory
                    let unread = try await client.sources("drill", "forever 100000 unread")
                    for _ in 0..<5 { try await readOthers() }
                    // The unread source is paused after a few frames. The others took 200 MB in the meantime.
                    #expect(try figures.peakMemory - before < 16 * 1_024)
                    withExtendedLifetime(unread) {}
                }
            }
        }

        @Test func `a client that disappears releases all its requests and sources`() async throws {
            let request = "forever 1000 a\nforever 100000 b\ndeaf c\ncount 100000 1000"
            try await ServedHost.serving(Self.configuration) { host in
                try await host.withClient { watcher in
                    // A client process that is killed.
                    let post = try ChanservCommand.start("post", "drill", "--body", request, "--join", host.address)
                    defer { post.end() }
                    _ = try await post.outputBytes(1 << 20)
                    let during = try await watcher.report("drill", "stats")
                    #expect(during["open_calls"] == 1 && during["open_sources"] == 4)
                    post.kill(SIGKILL)
                    let killed = try await watcher.report("drill", "idle")
                    #expect(killed["open_calls"] == 0 && killed["open_sources"] == 0)

                    // A link that is closed while sources are announced, dialled, read and unread.
                    let client = try await TestClient(port: host.port) { $0.sourceBuffer = 2 }
                    var iterator = try await client.post("drill", "repeat 1000 forever 1000 d").makeAsyncIterator()
                    let source = try #require(try await iterator.next())
                    var frames = source.frames.makeAsyncIterator()
                    for _ in 0..<1000 { #expect(try await frames.next() != nil) }
                    await client.close()
                    let cut = try await watcher.report("drill", "idle")
                    #expect(cut["open_calls"] == 0 && cut["open_sources"] == 0)
                    let error = try await failure(of: { while try await frames.next() != nil {} })
                    #expect(error.code == .connectionLost || error.code == .cancelled, "\(error)")
                }
            }
        }

        @Test func `a cancelled source is no longer polled`() async throws {
            try await ServedHost.serving(Self.configuration) { host in
                try await host.withClient { client in
                    let sources = try await client.sources("drill", "forever 1000 cancelled\nforever 1000 other")
                    try #require(sources.count == 2)
                    var cancelled = sources[0].frames.makeAsyncIterator()
                    var other = sources[1].frames.makeAsyncIterator()
                    for _ in 0..<100 {
                        #expect(try await cancelled.next() != nil)
                        #expect(try await other.next() != nil)
                    }
                    sources[0].cancel()
                    let polls = try #require(try await client.report("drill", "closed cancelled 1")["polls"])
                    #expect(polls > 0)
                    // The other source is still polled.
                    let before = try #require(try await client.report("drill", "closed other 0")["polls"])
                    for index in 100..<2000 {
                        #expect(try NumberedFrame(try #require(try await other.next())).index == index)
                    }
                    #expect(try #require(try await client.report("drill", "closed other 0")["polls"]) > before)
                    #expect(try await client.report("drill", "closed cancelled 1")["polls"] == polls)
                    sources[1].cancel()
                    #expect(try await client.report("drill", "idle")["open_sources"] == 0)
                }
            }
        }
    }
}
