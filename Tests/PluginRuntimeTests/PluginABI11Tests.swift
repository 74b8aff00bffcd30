import CChanservPlugin
import Chanserv
import NIOCore
import TestSupport
import Testing

/// The additions of plugin ABI 1.1, tested with the probe plugin.
@Suite("Plugin ABI 1.1", .timeLimit(.minutes(1)))
struct PluginABI11Tests {
    private let host: ProbeHost

    init() throws { host = try ProbeHost() }

    private func pattern(_ size: Int, start: String = "") -> [UInt8] {
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: ($0 &* 31) >> 3) }
        return Array(start.utf8) + bytes.dropFirst(start.utf8.count)
    }

    // MARK: Older plugins

    @Test(arguments: ["frames 1000", "reserve 100000", "blob 100000", "wakes 20", "behind 70000", "pendingwithframe"])
    func `a plugin built with the header of version 1.0 answers like a current one`(command: String) async throws {
        let old = try await host.instance(of: host.compileWithABI10(), yaml: "text: hello")
        let new = try await host.instance(yaml: "text: hello")
        #expect(try await old.frames(command) == new.frames(command))
        #expect(try await old.texts("report") == new.texts("report"))
        #expect(try await old.probeCounts()["violations"] == 0)
        #expect(await old.retireNow() == .destroyed)
        #expect(await new.retireNow() == .destroyed)
    }

    // MARK: Lent frames

    @Test(arguments: [8_192, 16_000, 65_536, 1 << 20, 20 << 20])
    func `lent frames arrive unchanged and in order, and each is released once`(size: Int) async throws {
        let instance = try await host.instance()
        let frames = try await instance.frames("lend \(size)")
        let lent = ByteBuffer(bytes: pattern(size))
        #expect(
            frames == [ByteBuffer(string: "first")] + Array(repeating: lent, count: 5) + [ByteBuffer(string: "last")])
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance().texts("lends")
        #expect(counts == ["lends=5 releases=5 early=0"])
    }

    @Test(arguments: [("lend 8191", false), ("lend 10000", true), ("lendmarked 10000", false), ("lend 0", false)])
    func `small, compressed and marked frames are copied and released before lend returns`(
        command: String, compression: Bool
    ) async throws {
        let instance = try await host.instance()
        let frames = try await instance.frames(command, .init(compression: compression))
        #expect(frames.count == 7)
        #expect(try await instance.texts("lends") == ["lends=5 releases=5 early=5"])
    }

    @Test func `frames beyond the limit of lent bytes are copied`() async throws {
        // With a small window, no sent frame is released until the client reads.
        let instance = try await host.instance(lentBytesLimit: 25_000, on: .memory(window: 64))
        let source = try await instance.source("lend 10000")
        await instance.idle()
        #expect(try await instance.texts("lends") == ["lends=5 releases=3 early=3"])
        #expect(try await source.drain().map(\.readableBytes) == [5] + Array(repeating: 10_000, count: 5) + [4])
    }

    @Test func `a lend without room in the batch is refused and its memory is not released`() async throws {
        let instance = try await host.instance()
        let frames = try await instance.frames("lend 30000", .init(batchSize: 50_000))
        #expect(frames.map(\.readableBytes) == [5] + Array(repeating: 30_000, count: 5) + [4])
        #expect(frames[5] == ByteBuffer(bytes: pattern(30_000)))
        let stops = try #require(try await instance.probeCounts()["stops"])
        #expect(stops > 0)
        #expect(await instance.retireNow() == .destroyed)
        #expect(try await host.instance().texts("lends") == ["lends=5 releases=5 early=0"])
    }

    @Test func `a lend without memory, without a release or of too many bytes is refused`() async throws {
        let instance = try await host.instance()
        #expect(try await instance.texts("badlend") == ["-5 -1 -1 -1"])
        #expect(try await instance.texts("lends") == ["lends=0 releases=0 early=0"])
    }

    @Test func `lent frames outlive their source and call, and destroy waits for their release`() async throws {
        let path = try host.compile()
        // Bytes beyond the window stay in the memory of the plugin until the client reads.
        let instance = try await host.instance(of: path, on: .memory(window: 64))
        let source = try await instance.source("lend 10000")
        await instance.idle()
        let retirement = await instance.retire(deadline: .now, grace: .milliseconds(10))
        #expect(retirement == .leaked(openCalls: 0))
        #expect(host.log.lines.contains { $0.contains("5 lent frames were not sent or dropped") })
        let other = try await host.instance(of: path)
        #expect(try await other.probeCounts()["destroys"] == 0)
        #expect(try await other.texts("lends") == ["lends=5 releases=0 early=0"])
        let lent = ByteBuffer(bytes: pattern(10_000))
        #expect(try await source.drain().filter { $0.readableBytes == 10_000 } == Array(repeating: lent, count: 5))
        // The lent memory of an instance that was left in memory is still released.
        try await eventually { try await other.texts("lends") == ["lends=5 releases=5 early=0"] }
    }

    @Test func `an instance is destroyed after the last release`() async throws {
        let path = try host.compile()
        let instance = try await host.instance(of: path, on: .memory(window: 64))
        let source = try await instance.source("lend 10000")
        await instance.idle()
        let retirement = Task { await instance.retire(deadline: .now, grace: .seconds(50)) }
        // The retirement cannot end before this, whatever it has done so far.
        source.cancel()
        #expect(await retirement.value == .destroyed)
        let other = try await host.instance(of: path)
        #expect(try await other.probeCounts()["late_releases"] == 0)
        #expect(try await other.texts("lends") == ["lends=5 releases=5 early=0"])
    }

    // MARK: The request's context

    private func context(_ context: RequestContext) async throws -> String? {
        let instance = try await host.instance()
        var iterator = try await instance.open("context", context: context).makeAsyncIterator()
        let source = try #require(try await iterator.next())
        return try await source.drain().first.map { String(buffer: $0) }
    }

    @Test func `a request without a context has no deadline, no tags and empty addresses`() async throws {
        #expect(try await context(RequestContext()) == "96 none NULL|NULL|NULL|||probe|0")
    }

    @Test func `the plugin gets the context of a request`() async throws {
        let full = RequestContext(
            deadline: .now + .seconds(3_600), meta: "about", bucket: "7",
            traceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", peerAddress: "127.0.0.1:4242",
            identity: "someone")
        #expect(
            try await context(full) == """
                96 soon about|7|00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01|127.0.0.1:4242|someone|probe|0
                """)
        #expect(try await context(RequestContext(deadline: .now - .seconds(1)))?.hasPrefix("96 over ") == true)
        #expect(try await context(RequestContext(deadline: .now + .seconds(1 << 40)))?.hasPrefix("96 late ") == true)
        #expect(try await context(RequestContext(meta: ""))?.hasPrefix("96 none |NULL|") == true)
    }

    // MARK: The configuration

    @Test func `config_keys lists the keys of a map in the order of the file`() async throws {
        let instance = try await host.instance(yaml: "text: x\nmap: {b: 1, a: 2, 'c.d': 3}")
        #expect(try await instance.texts("keys") == ["0 text map|0 b a c.d|-2|-1"])
        let bare = try await host.instance()
        #expect(try await bare.texts("keys") == ["0|-2|-2|-2"])
    }
}
