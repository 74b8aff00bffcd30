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
        let producer = try await instance.source("pendingwithframe")
        var batch = FrameBatch()
        #expect(try await producer.produce(into: &batch))
        #expect(batch.takeFrames() == [ByteBuffer(string: "early")])
        #expect(try await producer.produce(into: &batch) == false)
        #expect(batch.takeFrames() == [ByteBuffer(string: "late")])
        producer.close()
    }

    // MARK: cancellation

    @Test func aPendingSourceIsCancelledWithItsTask() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let producer = try await instance.source("never")
        let task = Task { try await producer.drain() }
        await host.log.wait(for: "pending")
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["source_cancels"] == 1)
        #expect(counts["source_closes"] == 1)
        #expect(counts["violations"] == 0)
    }

    @Test func aPollThatRunsIsCancelledWhileItRuns() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let producer = try await instance.source("block")
        let task = Task { try await producer.drain() }
        await host.log.wait(for: "blocked")
        task.cancel()
        // Only the cancel makes this poll return.
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(await instance.retireNow() == .destroyed)
    }

    @Test func aCallThatWaitsForSourcesIsCancelledWithItsTask() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let sources = try await instance.open("sourceless")
        let task = Task {
            var iterator = sources.makeAsyncIterator()
            return try await iterator.next() == nil
        }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
    }

    @Test func aTaskThatIsCancelledAlreadyPollsNothing() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let producer = try await instance.source("frames 10")
        let polls = instance.statistics.polls
        let gate = Event()
        let task = Task {
            await gate.wait()
            return try await producer.drain()
        }
        task.cancel()
        gate.happened()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(instance.statistics.polls == polls)
    }

    /// Cancels at whatever moment it comes to, many times; the probe watches the rules.
    @Test func cancellingAtAnyMomentKeepsTheRules() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let commands = ["frames 100000", "wakes 100000", "inside 100000", "storm 100000", "onebyone 100000"]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for round in 0..<100 {
                let producer = try await instance.source(commands[round % commands.count])
                let started = Event()
                let task = Task {
                    defer { producer.close() }
                    var batch = FrameBatch(target: 1)
                    started.happened()
                    while try await producer.produce(into: &batch) { _ = batch.takeFrames() }
                }
                group.addTask {
                    await started.wait()
                    for _ in 0..<round { await Task.yield() }
                    task.cancel()
                    _ = await task.result
                }
            }
            try await group.waitForAll()
        }
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["violations"] == 0)
        #expect(counts["source_closes"] == 100)
        #expect(counts["closes"] == 100)
    }

    @Test func closingTwiceClosesOnce() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let producer = try await instance.source("frames 1")
        producer.close()
        producer.close()
        var batch = FrameBatch()
        await #expect(throws: (any Error).self) { try await producer.produce(into: &batch) }
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["source_closes"] == 1)
    }

    // MARK: retirement

    @Test func aRetiredInstanceWaitsForItsCallsAndOpensNoNewOnes() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let producer = try await instance.source("frames 10")
        async let retirement = instance.retire(deadline: .now + .seconds(50))
        while instance.isServing { await Task.yield() }
        let error = await #expect(throws: PluginError.self) { _ = try await instance.open("frames 1") }
        #expect(error?.code == .withdrawn)
        #expect(error?.countsAsFailure == false)
        #expect(try await producer.drain().count == 10)
        #expect(await retirement == .destroyed)
    }

    @Test func afterTheDeadlineOpenCallsEndWithTheReason() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let waiting = try await instance.source("never")
        let blocking = try await instance.source("block")
        let idle = try await instance.source("frames 10")
        let calling = try await instance.open("sourceless")
        let tasks = [Task { try await waiting.drain() }, Task { try await blocking.drain() }]
        await host.log.wait(for: "pending")
        await host.log.wait(for: "blocked")
        #expect(await instance.retire(deadline: .now, grace: .seconds(50)) == .destroyed)
        for task in tasks {
            let error = await #expect(throws: PluginError.self) { try await task.value }
            #expect(error?.code == .withdrawn)
            #expect(error?.message == "plugin probe was replaced and its time to drain is over")
        }
        // Those nobody was polling find out when they do; the plugin has closed them long since.
        let error = await #expect(throws: PluginError.self) { try await idle.drain() }
        #expect(error?.code == .withdrawn)
        var iterator = calling.makeAsyncIterator()
        await #expect(throws: PluginError.self) { _ = try await iterator.next() }
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["violations"] == 0)
        #expect(counts["source_closes"] == 3)
        #expect(counts["destroys"] == 1)
    }

    @Test func aPluginThatNeverReturnsIsLeftBehindAndLogged() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        let producer = try await instance.source("hang")
        let task = Task { try await producer.drain() }
        await host.log.wait(for: "blocked")
        #expect(await instance.retire(deadline: .now, grace: .milliseconds(1)) == .leaked(openCalls: 1))
        #expect(host.log.count(of: "left in memory with 1 open calls") == 1)
        // Let it go, so that the test leaves no thread behind.
        let other = try await host.instance(of: host.folder.file("probe.so"))
        _ = try await other.texts("release")
        await #expect(throws: PluginError.self) { try await task.value }
        #expect(try await other.probeCounts()["destroys"] == 0)
    }
}
