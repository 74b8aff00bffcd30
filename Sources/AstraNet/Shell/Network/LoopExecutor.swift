internal import DequeModule
internal import NIOConcurrencyHelpers
package import NIOCore
internal import NIOPosix
internal import Synchronization

/// A task executor that runs tasks on a node's event loops. It is meant for tasks that mostly wait for streams and do
/// little work.
///
/// When a read resumes such a task, the task runs on the same event loop before the answers to the read are sent. On
/// another thread, each resumption would wake that thread and its answer would wake the event loop. The two wakes take
/// longer than the work of such tasks.
package final class LoopExecutor: TaskExecutor {
    /// The jobs of one event loop.
    package final class Queue: Sendable {
        fileprivate let eventLoop: any EventLoop
        private let jobs = NIOLockedValueBox<(waiting: Deque<UnownedJob>, isScheduled: Bool)>(([], false))

        fileprivate init(_ eventLoop: any EventLoop) {
            self.eventLoop = eventLoop
        }

        fileprivate func append(_ job: UnownedJob, of executor: LoopExecutor) {
            let needsTurn = jobs.withLockedValue { jobs in
                jobs.waiting.append(job)
                defer { jobs.isScheduled = true }
                return !jobs.isScheduled
            }
            if needsTurn { eventLoop.execute { self.run(executor, isScheduledTurn: true) } }
        }

        /// Maximum number of jobs that run before control returns to the event loop.
        private static let batchSize = 256

        fileprivate func run(_ executor: LoopExecutor, isScheduledTurn: Bool, afterEach: () -> Void = {}) {
            for _ in 0..<Self.batchSize {
                let job = jobs.withLockedValue { jobs in
                    let job = jobs.waiting.popFirst()
                    // If the queue is empty and this is not the scheduled turn, that turn may still run. It then does
                    // nothing.
                    if job == nil, isScheduledTurn { jobs.isScheduled = false }
                    return job
                }
                guard let job else { return }
                job.runSynchronously(on: executor.asUnownedTaskExecutor())
                afterEach()
            }
            // `execute` would run before the event loop reads its sockets.
            if isScheduledTurn {
                eventLoop.scheduleTask(in: .microseconds(50)) { self.run(executor, isScheduledTurn: true) }
            }
        }
    }

    private let queues: [Queue]
    private let home: Queue
    /// Whether the node is closed, so that its event loops may shut down at any time.
    private let isRetired = Atomic<Bool>(false)

    /// Creates an executor.
    ///
    /// - Parameters:
    ///   - group: the event loops.
    ///   - home: the event loop for tasks that are resumed on other threads.
    package init(_ group: any EventLoopGroup, home: any EventLoop) {
        let queues = group.makeIterator().map { Queue($0) }
        self.queues = queues
        self.home = queues.first { $0.eventLoop === home } ?? Queue(home)
    }

    /// Makes tasks run on Swift's global concurrent executor from now on.
    func retire() { isRetired.store(true, ordering: .relaxed) }

    package func enqueue(_ job: consuming ExecutorJob) {
        if isRetired.load(ordering: .relaxed) { return globalConcurrentExecutor.enqueue(job) }
        let current = MultiThreadedEventLoopGroup.currentEventLoop.flatMap { queue(of: $0) }
        (current ?? home).append(UnownedJob(job), of: self)
    }

    /// Returns the job queue of `eventLoop`; `nil` if it is not one of this executor's event loops.
    package func queue(of eventLoop: any EventLoop) -> Queue? {
        queues.first { $0.eventLoop === eventLoop }
    }

    /// Runs the waiting jobs of `queue` now. Call it only on the queue's event loop.
    ///
    /// - Parameter afterEach: a closure that is called after each job.
    package func runWaiting(on queue: Queue?, afterEach: () -> Void = {}) {
        queue?.run(self, isScheduledTurn: false, afterEach: afterEach)
    }
}
