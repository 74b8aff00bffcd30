import AstraNet
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@Suite(.timeLimit(.minutes(5))) struct LoopExecutorTests {
    /// Runs `body` with an executor over `count` event loops.
    private func withExecutor(
        _ count: Int, _ body: (LoopExecutor, [any EventLoop]) async throws -> Void
    ) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: count)
        let loops = Array(group.makeIterator())
        try await body(LoopExecutor(group, home: loops[0]), loops)
        try await group.shutdownGracefully()
    }

    private static var current: ObjectIdentifier? {
        MultiThreadedEventLoopGroup.currentEventLoop.map { ObjectIdentifier($0) }
    }

    @Test func `a task continues on the event loop that resumes it`() async throws {
        try await withExecutor(2) { executor, loops in
            for loop in loops {
                let place = await Task(executorPreference: executor) {
                    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                        // Through the home loop, which is busy until the task has suspended. A task that is resumed
                        // before it suspends stays on the home loop.
                        loops[0].execute { loop.execute { continuation.resume() } }
                    }
                    return Self.current
                }.value
                #expect(place == ObjectIdentifier(loop))
            }
        }
    }

    @Test func `a task that is resumed on another thread continues on the home loop`() async throws {
        try await withExecutor(2) { executor, loops in
            let others = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            let place = await Task(executorPreference: executor) {
                await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                    loops[0].execute { others.any().execute { continuation.resume() } }
                }
                return Self.current
            }.value
            #expect(place == ObjectIdentifier(loops[0]))
            try await others.shutdownGracefully()
        }
    }

    @Test func `a task that never stops yielding does not block the event loop`() async throws {
        try await withExecutor(1) { executor, loops in
            let isDone = NIOLockedValueBox(false)
            let busy = Task(executorPreference: executor) {
                while !isDone.withLockedValue({ $0 }) { await Task.yield() }
            }
            // This would never run if the task kept the event loop busy.
            try await loops[0].submit { isDone.withLockedValue { $0 = true } }.get()
            await busy.value
        }
    }

    @Test func `many tasks from many threads all end`() async throws {
        try await withExecutor(2) { executor, _ in
            let sum = await withTaskGroup(of: Int.self) { group in
                for number in 0..<2_000 {
                    group.addTask {
                        await Task(executorPreference: executor) {
                            await Task.yield()
                            return number
                        }.value
                    }
                }
                return await group.reduce(0, +)
            }
            #expect(sum == 1_999_000)
        }
    }

    @Test func `an explicit run takes the queued tasks, and the scheduled turn finds none`() async throws {
        try await withExecutor(1) { executor, loops in
            let queue = try #require(executor.queue(of: loops[0]))
            let order = NIOLockedValueBox<[Int]>([])
            let tasks = try await loops[0].submit {
                let tasks = (0..<3).map { number in
                    Task(executorPreference: executor) { order.withLockedValue { $0.append(number) } }
                }
                executor.runWaiting(on: queue)
                order.withLockedValue { $0.append(99) }
                return tasks
            }.get()
            for task in tasks { await task.value }
            #expect(order.withLockedValue { $0 } == [0, 1, 2, 99])
            // A later task still runs.
            await Task(executorPreference: executor) { order.withLockedValue { $0.append(4) } }.value
            #expect(order.withLockedValue { $0.last } == 4)
        }
    }
}
