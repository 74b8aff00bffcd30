import Chanserv
import NIOCore
import PluginRuntime
import TestSupport
import Testing

@Suite("Wakes, cancellation and close", .timeLimit(.minutes(1)))
struct PluginWakeTests {
    private func numbers(_ count: Int) -> [String] { (0..<count).map { "\($0)" } }

    @Test func `a wake from another thread resumes the source`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("wakes 2000", target: 1) == numbers(2000))
        #expect(try await instance.probeCounts()["violations"] == 0)
    }

    @Test func `a wake during the poll is not lost`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("inside 2000", target: 1) == numbers(2000))
    }

    @Test func `surplus wakes and wakes with unknown handles are harmless`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    let texts = try await instance.texts("storm 1000", target: 1)
                    #expect(texts == numbers(1000))
                }
            }
            try await group.waitForAll()
        }
        let counts = try await instance.probeCounts()
        #expect(counts["violations"] == 0)
        #expect(counts["source_cancels"] == 0)
    }

    @Test func `a wake after the close does nothing`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("late") == ["only"])
        await host.log.wait(for: "woken late")
        #expect(try await instance.probeCounts()["late_wakes"] == 1)
    }

    @Test func `frames of a poll that returns PENDING are sent at once`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("pendingwithframe") == ["early", "late"])
        // The source is never woken, so only the first poll can deliver the frame.
        let source = try await instance.source("frameandnever")
        #expect(try await source.text() == "early")
        source.cancel()
    }

    // MARK: Cancellation

    @Test func `cancelling the task ends the wait for a pending source`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let source = try await instance.source("never")
        let task = Task { try await source.drain() }
        await host.log.wait(for: "pending")
        task.cancel()
        let error = await #expect(throws: ChanservError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        source.cancel()
        await instance.idle()
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["source_cancels"] == 1)
        #expect(counts["source_closes"] == 1)
        #expect(counts["violations"] == 0)
    }

    @Test func `a running poll is cancelled while it runs`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let source = try await instance.source("block")
        await host.log.wait(for: "blocked")
        // Only `cancel` makes this poll return.
        source.cancel()
        await instance.idle()
        #expect(await instance.retireNow() == .destroyed)
    }

    @Test func `cancelling a request cancels a call that waits for sources`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let sources = try await instance.open("sourceless")
        try await eventually { instance.statistics.polls > 0 }
        sources.cancel()
        await instance.idle()
        let counts = try await instance.probeCounts()
        #expect(counts["call_cancels"] == 1)
        #expect(counts["closes"] == 1)
        #expect(counts["violations"] == 0)
    }

    @Test func `a source that is given up before the client dials it is closed without a poll`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let service = try instance.service()
        // The test dials by itself, because `Client` fetches sources ahead.
        var body = FrameBatch()
        try body.append(ByteBuffer(string: "frames 10"))
        let (connection, _) = try await instance.network.client.dial(
            service.vAddr, DialOptions(), deadline: .now + .seconds(50))
        _ = try connection.write(body.take())
        // Reads the announcement.
        #expect(try await connection.read(deadline: .now + .seconds(50)) != nil)
        connection.close()
        // The listing was complete, so the source waits for its client until the service cancels it.
        service.cancelAll(reason: "enough")
        await instance.idle()
        #expect(instance.statistics.polls == 1)
        #expect(instance.statistics.frames == 0)
        let counts = try await instance.probeCounts()
        #expect(counts["source_closes"] == 1 && counts["source_cancels"] == 1)
        #expect(counts["violations"] == 0)
    }

    /// Cancels 100 sources at different moments. The probe counts violations of the ABI rules.
    @Test func `cancelling at any moment keeps the ABI rules`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let commands = ["frames 100000", "wakes 100000", "inside 100000", "storm 100000", "onebyone 100000"]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for round in 0..<100 {
                let source = try await instance.source(commands[round % commands.count], .init(batchSize: 1))
                group.addTask {
                    for _ in 0..<round { _ = try await source.next() }
                    source.cancel()
                }
            }
            try await group.waitForAll()
        }
        await instance.idle()
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["violations"] == 0)
        #expect(counts["source_closes"] == 100)
        #expect(counts["closes"] == 100)
    }

    @Test func `cancelling a source twice closes it once`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let source = try await instance.source("frames 1000000000")
        source.cancel()
        source.cancel()
        await #expect(throws: (any Error).self) { while try await source.next() != nil {} }
        await instance.idle()
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["source_closes"] == 1)
        #expect(counts["violations"] == 0)
    }

    // MARK: Retirement

    @Test func `a retired instance waits for its calls and opens no new ones`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        // More frames than are in flight at a time.
        let source = try await instance.source("frames 100000")
        async let retirement = instance.retire(deadline: .now + .seconds(50))
        var refusal: PluginError?
        while refusal == nil {
            do { _ = try await instance.texts("version") } catch let error as PluginError { refusal = error }
        }
        #expect(refusal?.code == .withdrawn)
        #expect(refusal?.countsAsFailure == false)
        #expect(try await source.drain().count == 100_000)
        #expect(await retirement == .destroyed)
    }

    @Test func `open calls end with the reason at the drain deadline`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let waiting = try await instance.source("never")
        let blocking = try await instance.source("block")
        let unread = try await instance.source("frames 1000000000")
        let calling = try await instance.open("sourceless")
        let tasks = [Task { try await waiting.drain() }, Task { try await blocking.drain() }]
        await host.log.wait(for: "pending")
        await host.log.wait(for: "blocked")
        try await eventually { instance.statistics.calls >= 4 }
        #expect(await instance.retire(deadline: .now, grace: .seconds(50)) == .destroyed)
        let reason = "plugin probe was replaced and its time to drain is over"
        for task in tasks {
            let error = await #expect(throws: ChanservError.self) { try await task.value }
            #expect(error?.code == .sourceFailed)
            #expect(error?.message == reason)
        }
        // A client that does not read gets the error with its next read, after the plugin has closed the source.
        let error = await #expect(throws: ChanservError.self) { while try await unread.next() != nil {} }
        #expect(error?.message == reason)
        let listing = await #expect(throws: ChanservError.self) { for try await _ in calling {} }
        #expect(listing?.message == reason)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["violations"] == 0)
        #expect(counts["source_closes"] == instance.statistics.sources)
        #expect(counts["destroys"] == 1)
    }

    @Test func `a plugin that never returns is left in memory and logged`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let source = try await instance.source("hang")
        let task = Task { try await source.drain() }
        await host.log.wait(for: "blocked")
        #expect(await instance.retire(deadline: .now, grace: .milliseconds(1)) == .leaked(openCalls: 1))
        #expect(host.log.count(of: "stays in memory with 1 open requests") == 1)
        // The client gets the error although the plugin does not return.
        await #expect(throws: ChanservError.self) { try await task.value }
        // Releases the plugin, so that no thread stays blocked after the test.
        let other = try await host.instance(of: host.folder.file("probe.so"))
        _ = try await other.texts("release")
        await instance.idle()
        #expect(try await other.probeCounts()["destroys"] == 0)
    }
}
