import Chanserv
import NIOCore
import Testing

@testable import ChanservHost

@Suite("Wakes, cancellation and close", .timeLimit(.minutes(1)))
struct PluginWakeTests {
    private func numbers(_ count: Int) -> [String] { (0..<count).map { "\($0)" } }

    @Test func aWakeFromAnotherThreadResumesTheSource() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("wakes 2000", target: 1) == numbers(2000))
        #expect(try await instance.probeCounts()["violations"] == 0)
    }

    @Test func aWakeDuringThePollIsNotLost() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("inside 2000", target: 1) == numbers(2000))
    }

    @Test func wakesTooOftenAndWithWrongHandlesAreHarmless() async throws {
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

    @Test func aWakeAfterTheCloseDoesNothing() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("late") == ["only"])
        await host.log.wait(for: "woken late")
        #expect(try await instance.probeCounts()["late_wakes"] == 1)
    }

    @Test func framesThatCameWithAPendingAreNotHeldBack() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("pendingwithframe") == ["early", "late"])
        // Without a wake nothing but the first poll brings the frame.
        let source = try await instance.source("frameandnever")
        #expect(try await source.text() == "early")
        source.cancel()
    }

    // MARK: cancellation

    @Test func aPendingSourceIsCancelledWithItsTask() async throws {
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

    @Test func aPollThatRunsIsCancelledWhileItRuns() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let source = try await instance.source("block")
        await host.log.wait(for: "blocked")
        // Only the cancel makes this poll return.
        source.cancel()
        await instance.idle()
        #expect(await instance.retireNow() == .destroyed)
    }

    @Test func aCallThatWaitsForSourcesIsCancelledWithItsTask() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let sources = try await instance.open("sourceless")
        while instance.statistics.polls == 0 { await Task.yield() }
        sources.cancel()
        await instance.idle()
        let counts = try await instance.probeCounts()
        #expect(counts["call_cancels"] == 1)
        #expect(counts["closes"] == 1)
        #expect(counts["violations"] == 0)
    }

    @Test func `a source that the client gives up before it fetched it is not polled, and closed`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let service = try instance.service()
        // By hand, because the client of this library fetches ahead.
        var body = FrameBatch()
        try body.append(ByteBuffer(string: "frames 10"))
        let (connection, _) = try await instance.network.client.dial(
            service.vAddr, DialOptions(), deadline: .now + .seconds(50))
        _ = try connection.write(body.take())
        // The announcement.
        #expect(try await connection.read(deadline: .now + .seconds(50)) != nil)
        connection.close()
        // The listing was over, so that the source waits for its client all the same, until it is given up.
        service.cancelAll(reason: "enough")
        await instance.idle()
        #expect(instance.statistics.polls == 1)
        #expect(instance.statistics.frames == 0)
        let counts = try await instance.probeCounts()
        #expect(counts["source_closes"] == 1 && counts["source_cancels"] == 1)
        #expect(counts["violations"] == 0)
    }

    /// Cancels at whatever moment it comes to, many times; the probe watches the rules.
    @Test func cancellingAtAnyMomentKeepsTheRules() async throws {
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

    @Test func closingTwiceClosesOnce() async throws {
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

    // MARK: retirement

    @Test func aRetiredInstanceWaitsForItsCallsAndOpensNoNewOnes() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        // More than is under way at once.
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

    @Test func afterTheDeadlineOpenCallsEndWithTheReason() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let waiting = try await instance.source("never")
        let blocking = try await instance.source("block")
        let unread = try await instance.source("frames 1000000000")
        let calling = try await instance.open("sourceless")
        let tasks = [Task { try await waiting.drain() }, Task { try await blocking.drain() }]
        await host.log.wait(for: "pending")
        await host.log.wait(for: "blocked")
        while instance.statistics.calls < 4 { await Task.yield() }
        #expect(await instance.retire(deadline: .now, grace: .seconds(50)) == .destroyed)
        let reason = "plugin probe was replaced and its time to drain is over"
        for task in tasks {
            let error = await #expect(throws: ChanservError.self) { try await task.value }
            #expect(error?.code == .sourceFailed)
            #expect(error?.message == reason)
        }
        // A client that did not read finds out when it does; the plugin has closed its source long since.
        let error = await #expect(throws: ChanservError.self) { while try await unread.next() != nil {} }
        #expect(error?.message == reason)
        let listing = await #expect(throws: ChanservError.self) { for try await _ in calling {} }
        #expect(listing?.message == reason)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["violations"] == 0)
        #expect(counts["source_closes"] == instance.statistics.sources)
        #expect(counts["destroys"] == 1)
    }

    @Test func aPluginThatNeverReturnsIsLeftBehindAndLogged() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let source = try await instance.source("hang")
        let task = Task { try await source.drain() }
        await host.log.wait(for: "blocked")
        #expect(await instance.retire(deadline: .now, grace: .milliseconds(1)) == .leaked(openCalls: 1))
        #expect(host.log.count(of: "left in memory with 1 open calls") == 1)
        // The client is told without it.
        await #expect(throws: ChanservError.self) { try await task.value }
        // Let it go, so that the test leaves no thread behind.
        let other = try await host.instance(of: host.folder.file("probe.so"))
        _ = try await other.texts("release")
        await instance.idle()
        #expect(try await other.probeCounts()["destroys"] == 0)
    }
}
