import Chanserv
import NIOCore
import TestSupport
import Testing

/// Plugins that the host calls on its event loops.
@Suite("Inline plugins", .timeLimit(.minutes(2)))
struct InlinePluginTests {
    private let host: ProbeHost

    init() throws { host = try ProbeHost() }

    private func withInstance(
        flags: String = "CHANSERV_PLUGIN_INLINE", allowsInline: Bool = true,
        _ body: (ProbeInstance) async throws -> Void
    ) async throws {
        try await ProbeNetwork.withNodes { network in
            let instance = try await host.instance(flags: flags, allowsInline: allowsInline, on: network)
            try await body(instance)
            await instance.idle()
            #expect(await instance.retireNow() == .destroyed)
        }
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["violations"] == 0)
        // This request itself is open.
        #expect(counts["opens"] == counts["closes"]! + 1)
        #expect(counts["destroys"] == 1)
    }

    /// Waits until the functions of a request run on an event loop. It waits, because a call that the system interrupts
    /// for a millisecond moves the plugin to plugin threads for a pause.
    private func expectInline(
        _ instance: ProbeInstance, _ command: String = "thread", _ way: ProbeInstance.Way = .init()
    ) async throws {
        try await eventually { try await isInline(instance, command, way) }
    }

    private func expectOnThreads(
        _ instance: ProbeInstance, _ command: String = "thread", _ way: ProbeInstance.Way = .init(),
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let isInline = try await isInline(instance, command, way)
        #expect(!isInline, sourceLocation: sourceLocation)
    }

    /// Whether the functions of a request run on an event loop.
    private func isInline(
        _ instance: ProbeInstance, _ command: String = "thread", _ way: ProbeInstance.Way = .init()
    ) async throws -> Bool {
        let name = try #require(try await instance.texts(command, way).first)
        #expect(name.hasPrefix("NIO-") || name.hasPrefix("shared-"), "\(name)")
        return name.hasPrefix("NIO-")
    }

    // MARK: - Threads

    @Test func `an inline plugin is called on an event loop`() async throws {
        try await withInstance { instance in
            try await expectInline(instance)
            try await expectInline(instance, "wokenthread")
            try await expectInline(instance, "thread", .init(acceptsPushedSources: false))
            try await expectInline(instance, "wokenthread", .init(acceptsPushedSources: false))
        }
    }

    @Test func `a plugin without the inline flag is not called on an event loop`() async throws {
        try await withInstance(flags: "0") { instance in
            try await expectOnThreads(instance)
            try await expectOnThreads(instance, "wokenthread")
        }
    }

    @Test func `an inline plugin runs on plugin threads if frames are compressed`() async throws {
        try await withInstance { instance in
            try await expectOnThreads(instance, "thread", .init(compression: true))
            try await expectOnThreads(instance, "wokenthread", .init(compression: true))
        }
    }

    @Test func `a request with a body above 64 KiB is served on plugin threads`() async throws {
        try await withInstance { instance in
            let command = "thread 0 "
            let longest = command + String(repeating: " ", count: 65_536 - command.utf8.count)
            try await expectInline(instance, longest)
            try await expectOnThreads(instance, longest + " ")
            try await expectOnThreads(instance, "wokenthread " + longest)
        }
    }

    @Test func `an inline plugin runs on plugin threads if the configuration disallows inline calls`() async throws {
        try await withInstance(allowsInline: false) { instance in
            try await expectOnThreads(instance)
            try await expectOnThreads(instance, "wokenthread")
        }
    }

    @Test func `a call above a millisecond moves the plugin to plugin threads for a pause and is logged`() async throws
    {
        try await withInstance { instance in
            // A pause may be over before the next request arrives. But each pause is longer than the one before.
            try await eventually {
                let texts = try await instance.texts("slow 1500")
                #expect(texts == [])
                return try await !isInline(instance)
            }
            #expect(host.log.count(of: "us on a network thread; the plugin runs on plugin threads for 100 ms") == 1)
            try await expectInline(instance)
        }
    }

    @Test func `cancel is not called on an event loop`() async throws {
        try await withInstance { instance in
            let source = try await instance.source("never")
            await host.log.wait(for: "pending")
            source.cancel()
            await instance.idle()
            let thread = try #require(try await instance.texts("cancelthread").first)
            #expect(thread.hasPrefix("shared!-"), "\(thread)")
        }
    }

    // MARK: - Wakes

    @Test(arguments: ["CHANSERV_PLUGIN_INLINE", "CHANSERV_PLUGIN_INLINE | CHANSERV_PLUGIN_SERIAL"])
    func `wakes from other threads and from inside a poll cause the next turn`(flags: String) async throws {
        try await withInstance(flags: flags) { instance in
            let numbers = (0..<1_000).map { "\($0)" }
            #expect(try await instance.texts("wakes 1000", target: 1) == numbers)
            #expect(try await instance.texts("inside 1000", target: 1) == numbers)
            try await withThrowingTaskGroup(of: [String].self) { group in
                for _ in 0..<4 { group.addTask { try await instance.texts("storm 1000", target: 1) } }
                for try await texts in group { #expect(texts == numbers) }
            }
        }
    }

    @Test(arguments: [
        "0", "CHANSERV_PLUGIN_SERIAL", "CHANSERV_PLUGIN_BLOCKING", "CHANSERV_PLUGIN_INLINE",
        "CHANSERV_PLUGIN_INLINE | CHANSERV_PLUGIN_SERIAL",
    ])
    func `a wake from inside a poll of another object is not lost`(flags: String) async throws {
        try await withInstance(flags: flags) { instance in
            for round in 1...20 {
                let sleeper = try await instance.source("sleeper")
                await host.log.wait(for: "sleeping", count: round)
                #expect(try await instance.texts("waker") == ["wakes"])
                #expect(try await sleeper.drain() == [ByteBuffer(string: "woken")])
            }
        }
    }

    // MARK: - Order of calls

    @Test(arguments: ["CHANSERV_PLUGIN_INLINE | CHANSERV_PLUGIN_SERIAL", "CHANSERV_PLUGIN_SERIAL"])
    func `calls of a serial plugin never overlap, wherever they run`(flags: String) async throws {
        try await withInstance(flags: flags) { instance in
            let large = String(repeating: " ", count: 66_000)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for round in 0..<40 {
                    group.addTask {
                        let commands = ["wakes 50", "sources 20", "frames 50000", "storm 200", "onebyone 500"]
                        // Every third request has a large body and is served on plugin threads.
                        let command = commands[round % commands.count] + (round % 3 == 0 ? large : "")
                        let sources = try await instance.open(command)
                        if round % 7 == 0 { return sources.cancel() }
                        for try await source in sources {
                            if round % 5 == 0 { source.cancel() } else { _ = try await source.drain() }
                        }
                    }
                }
                try await group.waitForAll()
            }
            await instance.idle()
            #expect(try await instance.probeCounts()["overlaps"] == 0)
        }
    }

    /// Cancels at different moments. The probe counts violations of the ABI rules.
    @Test(arguments: [true, false])
    func `cancelling at any moment keeps the ABI rules`(acceptsPushedSources: Bool) async throws {
        try await withInstance { instance in
            let commands = ["frames 100000", "wakes 100000", "inside 100000", "storm 100000", "sources 300", "never"]
            let way = ProbeInstance.Way(batchSize: 1, acceptsPushedSources: acceptsPushedSources)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for round in 0..<60 {
                    group.addTask {
                        let command = commands[round % commands.count]
                        let sources = try await instance.open(command, way)
                        if round % 4 == 0 { return sources.cancel() }
                        var iterator = sources.makeAsyncIterator()
                        guard let source = try await iterator.next() else { return }
                        if command != "never", command != "sources 300" {
                            for _ in 0..<round { _ = try await source.next() }
                        }
                        if round % 4 == 1 { sources.cancel() }
                        source.cancel()
                    }
                }
                try await group.waitForAll()
            }
            await instance.idle()
            let counts = try await instance.probeCounts()
            #expect(counts["source_closes"] == instance.statistics.sources - 1)
        }
    }

    @Test func `a large answer that is made on an event loop arrives whole beside others`() async throws {
        try await withInstance { instance in
            let large = try await instance.source("frames 300000")
            #expect(try await instance.texts("frames 3") == ["0", "1", "2"])
            let frames = try await large.drain()
            #expect(frames.count == 300_000)
            #expect(frames.last == ByteBuffer(string: "299999"))
        }
    }
}
