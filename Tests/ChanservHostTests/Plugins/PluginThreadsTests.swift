import Chanserv
import NIOConcurrencyHelpers
import Testing

@testable import ChanservHost

@Suite("Plugin threads", .timeLimit(.minutes(1)))
struct PluginThreadsTests {
    @Test func `jobs on one thread run in order`() async {
        let threads = PluginThreads(name: "order", limit: 1)
        let order = NIOLockedValueBox<[Int]>([])
        for number in 0..<1000 { threads.submit { order.withLockedValue { $0.append(number) } } }
        await threads.run {}
        #expect(order.withLockedValue { $0 } == Array(0..<1000))
        #expect(threads.threadCount == 1)
        threads.retire()
    }

    @Test func `there are never more threads than the limit`() async {
        let threads = PluginThreads(name: "limit", limit: 3)
        let running = NIOLockedValueBox((now: 0, most: 0))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<500 {
                group.addTask {
                    await threads.run {
                        running.withLockedValue {
                            $0.now += 1
                            $0.most = max($0.most, $0.now)
                        }
                        running.withLockedValue { $0.now -= 1 }
                    }
                }
            }
        }
        #expect(running.withLockedValue { $0.most } <= 3)
        #expect(threads.threadCount <= 3)
        threads.retire()
    }

    @Test func `a task with an executor preference runs on the preferred threads`() async {
        let threads = PluginThreads(name: "tasks", limit: 2)
        let onThreads = await Task(executorPreference: threads) {
            let before = threads.isCurrent
            await Task.yield()
            _ = await ChanservHost.Event().wait(until: .now)
            return (before, threads.isCurrent)
        }.value
        #expect(onThreads == (true, true))
        #expect(!threads.isCurrent)
        let nested = await withTaskExecutorPreference(threads, isolation: nil) { threads.isCurrent }
        #expect(nested)
        threads.retire()
    }

    @Test func `unhurried work runs after the job that submits it and is never lost`() async {
        let threads = PluginThreads(name: "unhurried", limit: 1)
        for _ in 0..<100 {
            let order = NIOLockedValueBox<[Int]>([])
            await withUnsafeContinuation { continuation in
                threads.submit {
                    threads.submitUnhurried {
                        order.withLockedValue { $0.append(2) }
                        continuation.resume()
                    }
                    order.withLockedValue { $0.append(1) }
                }
            }
            #expect(order.withLockedValue { $0 } == [1, 2])
        }
        // A submission from another thread wakes a plugin thread.
        await withUnsafeContinuation { continuation in threads.submitUnhurried { continuation.resume() } }
        threads.retire()
        await withUnsafeContinuation { continuation in threads.submitUnhurried { continuation.resume() } }
    }

    @Test func `urgent work runs while all threads are blocked`() async {
        let threads = PluginThreads(name: "urgent", limit: 1)
        let held = ChanservHost.Event()
        let gate = ConditionLock(value: 0)
        threads.submit {
            held.happened()
            gate.lock(whenValue: 1)
            gate.unlock()
        }
        await held.wait()
        // Only the urgent work unblocks the one thread.
        threads.submitUrgent {
            gate.lock()
            gate.unlock(withValue: 1)
        }
        await threads.run {}
        threads.retire()
    }

    @Test func `retired threads still run late work`() async {
        let threads = PluginThreads(name: "late", limit: 2)
        await threads.run {}
        threads.retire()
        let answer = await Task(executorPreference: threads) { threads.isCurrent }.value
        #expect(answer)
    }

    @Test func `a serial lane runs one job at a time in order`() async {
        let threads = PluginThreads(name: "lane", limit: 4)
        let lane = SerialLane(on: threads)
        let state = NIOLockedValueBox((inside: 0, overlaps: 0, order: [Int]()))
        for number in 0..<1000 {
            lane.submit {
                state.withLockedValue {
                    $0.inside += 1
                    if $0.inside > 1 { $0.overlaps += 1 }
                    $0.order.append(number)
                }
                state.withLockedValue { $0.inside -= 1 }
            }
        }
        let isCurrent = await lane.run { lane.isCurrent && !threads.isCurrent }
        #expect(isCurrent)
        #expect(state.withLockedValue { $0.overlaps } == 0)
        #expect(state.withLockedValue { $0.order } == Array(0..<1000))
        threads.retire()
    }

    @Test func `a thread with a stuck call is replaced until the call returns`() async {
        let threads = PluginThreads(name: "stuck", limit: 1)
        let held = ChanservHost.Event()
        let gate = ConditionLock(value: 0)
        threads.submit {
            held.happened()
            gate.lock(whenValue: 1)
            gate.unlock()
        }
        await held.wait()
        let passed = ChanservHost.Event()
        threads.submit { passed.happened() }
        #expect(threads.isBehind)
        threads.callIsStuck(isUrgent: false)
        await passed.wait()
        #expect(threads.threadCount == 2)
        gate.lock()
        gate.unlock(withValue: 1)
        threads.stuckCallReturned(isUrgent: false)
        // The time limit of the suite is the deadline.
        while threads.threadCount > 1 { await threads.run {} }
        threads.retire()
    }

    @Test func `work that a stuck job has submitted runs on a waiting thread`() async {
        let threads = PluginThreads(name: "left", limit: 2)
        // Starts two threads. Both wait for work afterwards.
        let both = NIOLockedValueBox(0)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    await threads.run {
                        both.withLockedValue { $0 += 1 }
                        while both.withLockedValue({ $0 }) < 2 {}
                    }
                }
            }
        }
        let passed = ChanservHost.Event()
        let gate = ConditionLock(value: 0)
        threads.submit {
            threads.submitUnhurried { passed.happened() }
            threads.callIsStuck(isUrgent: false)
            gate.lock(whenValue: 1)
            gate.unlock()
        }
        await passed.wait()
        gate.lock()
        gate.unlock(withValue: 1)
        threads.stuckCallReturned(isUrgent: false)
        threads.retire()
    }

    @Test func `all of many concurrent jobs run`() async {
        let threads = PluginThreads(name: "burst", limit: 4)
        for _ in 0..<200 {
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<20 { group.addTask { await threads.run {} } }
            }
        }
        threads.retire()
    }

    @Test func `a plugin that hangs does not block other plugins`() async throws {
        let host = try ProbeHost(threads: 1)
        let hanging = try await host.instance(of: host.compile("a.so"), callBudget: .milliseconds(10))
        let other = try await host.instance(of: host.compile("b.so", version: "2"))
        let source = try await hanging.source("hang")
        let task = Task { try await source.drain() }
        await host.log.wait(for: "blocked")
        #expect(try await other.texts("frames 3") == ["0", "1", "2"])
        _ = try await hanging.texts("release")
        #expect(try await task.value == [])
    }

    @Test(arguments: ["create", "destroy"])
    func `a create or destroy that hangs is logged and does not block other instances`(function: String) async throws {
        let host = try ProbeHost(threads: 1)
        let path = try host.compile()
        let other = try await host.instance(of: path)
        let life = Task {
            let hanging = try await host.instance(
                of: path, yaml: "hang: \(function)", lifecycleBudget: .milliseconds(10))
            return await hanging.retireNow()
        }
        await host.log.wait(for: "blocked")
        // There was only one thread, so its replacement serves this request.
        _ = try await other.texts("release")
        #expect(try await life.value == .destroyed)
        #expect(host.log.count(of: "warning [probe] plugin probe: \(function) has not returned for") == 1)
    }

    @Test func `a cancel that hangs does not block other cancels`() async throws {
        let host = try ProbeHost()
        let path = try host.compile("a.so")
        let hanging = try await host.instance(of: path, yaml: "hang: cancel", callBudget: .milliseconds(10))
        let first = try await hanging.source("never")
        await host.log.wait(for: "pending")
        first.cancel()
        await host.log.wait(for: "blocked")
        // Only the cancel of this source ends its poll.
        let other = try await host.instance(of: host.compile("b.so", version: "2"))
        let second = try await other.source("block")
        await host.log.wait(for: "blocked", count: 2)
        second.cancel()
        await other.idle()
        _ = try await host.instance(of: path).texts("release")
        await hanging.idle()
        #expect(await hanging.retireNow() == .destroyed)
    }

    @Test func `an endless source shares the threads with other sources`() async throws {
        let host = try ProbeHost(threads: 1)
        let instance = try await host.instance()
        let endless = try await instance.source("frames 1000000000")
        let task = Task { while try await endless.next() != nil {} }
        #expect(try await instance.texts("frames 3") == ["0", "1", "2"])
        endless.cancel()
        _ = await task.result
        await instance.idle()
    }

    // MARK: Flags

    @Test func `plugin functions run on the shared threads`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("thread").first?.hasPrefix("shared-") == true)
        // Also if the task of the client prefers another executor.
        let others = PluginThreads(name: "others", limit: 1)
        let texts = try await Task(executorPreference: others) { try await instance.texts("thread") }.value
        #expect(texts.first?.hasPrefix("shared-") == true)
        others.retire()
    }

    @Test @MainActor func `plugin functions run on the shared threads for a client on the main actor`() async throws {
        let host = try ProbeHost()
        let instance = try await host.instance()
        #expect(try await instance.texts("thread").first?.hasPrefix("shared-") == true)
    }

    @Test func `several sources are polled at the same time`() async throws {
        let host = try ProbeHost(threads: 4)
        let instance = try await host.instance()
        try await drainAll(instance.open("barrier 4"))
        #expect(try await instance.probeCounts()["overlaps"]! > 0)
    }

    @Test func `calls of a serial plugin never overlap`() async throws {
        let host = try ProbeHost(threads: 4)
        let instance = try await host.instance(flags: "CHANSERV_PLUGIN_SERIAL")
        #expect(instance.library.descriptor.isSerial)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for round in 0..<20 {
                group.addTask {
                    let sources = try await instance.open(round % 2 == 0 ? "wakes 50" : "sources 20")
                    if round % 5 == 0 { return sources.cancel() }
                    try await drainAll(sources)
                }
            }
            try await group.waitForAll()
        }
        await instance.idle()
        #expect(await instance.retireNow() == .destroyed)
        let counts = try await host.instance(of: host.folder.file("probe.so")).probeCounts()
        #expect(counts["overlaps"] == 0)
        #expect(counts["violations"] == 0)
    }

    @Test func `a blocking plugin has its own threads and does not block other plugins`() async throws {
        let host = try ProbeHost(threads: 1)
        let blocking = try await host.instance(
            of: host.compile("blocking.so", flags: "CHANSERV_PLUGIN_BLOCKING"), blockingThreads: 2)
        let ordinary = try await host.instance(of: host.compile("ordinary.so"))
        let sources = [try await blocking.source("block"), try await blocking.source("block")]
        await host.log.wait(for: "blocked", count: 2)
        // Both of its threads are blocked now.
        #expect(try await ordinary.texts("frames 3") == ["0", "1", "2"])
        for source in sources { source.cancel() }
        await blocking.idle()
        #expect(try await blocking.texts("thread").first?.hasPrefix("probe-") == true)
        #expect(await blocking.retireNow() == .destroyed)
    }
}

/// Reads all sources to their ends concurrently.
private func drainAll(_ sources: ProbeSources) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        for try await source in sources { group.addTask { _ = try await source.drain() } }
        try await group.waitForAll()
    }
}
