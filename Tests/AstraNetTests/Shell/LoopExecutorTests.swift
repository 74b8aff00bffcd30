import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import AstraNet

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

    @Test func aTaskGoesOnAtTheEventLoopThatResumesIt() async throws {
        try await withExecutor(2) { executor, loops in
            for loop in loops {
                let place = await Task(executorPreference: executor) {
                    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                        // By way of home, where the task is until it has suspended: one that is resumed before stays there.
                        loops[0].execute { loop.execute { continuation.resume() } }
                    }
                    return Self.current
                }.value
                #expect(place == ObjectIdentifier(loop))
            }
        }
    }

    @Test func aTaskThatIsResumedElsewhereGoesOnAtHome() async throws {
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

    @Test func tasksThatGoOnAndOnLeaveTheEventLoopItsTurns() async throws {
        try await withExecutor(1) { executor, loops in
            let isDone = NIOLockedValueBox(false)
            let busy = Task(executorPreference: executor) {
                while !isDone.withLockedValue({ $0 }) { await Task.yield() }
            }
            // Would never come, were the event loop theirs alone.
            try await loops[0].submit { isDone.withLockedValue { $0 = true } }.get()
            await busy.value
        }
    }

    @Test func manyTasksFromManyThreadsAllEnd() async throws {
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

    @Test func aRunInBetweenTakesWhatWaitsAndTheTurnThatWasAskedForFindsNothing() async throws {
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
            // The next one is not forgotten.
            await Task(executorPreference: executor) { order.withLockedValue { $0.append(4) } }.value
            #expect(order.withLockedValue { $0.last } == 4)
        }
    }
}
