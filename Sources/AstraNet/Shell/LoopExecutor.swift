internal import DequeModule
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// A task executor on a node's event loops, for tasks that mostly wait for streams and then do little work.
///
/// A task that a read of a link resumes runs on the same event loop, before the answers to that read are sent. On other
/// threads, each resumption would wake a thread, and its answer would wake the event loop again. Both together take
/// longer than the work of such tasks.
final class LoopExecutor: TaskExecutor {
    /// The jobs of one event loop.
    final class Queue: Sendable {
        fileprivate let eventLoop: any EventLoop
        private let jobs = NIOLockedValueBox<(waiting: Deque<UnownedJob>, isScheduled: Bool)>(([], false))

        fileprivate init(_ eventLoop: any EventLoop) {
            self.eventLoop = eventLoop
        }

        fileprivate func append(_ job: UnownedJob, of executor: LoopExecutor) {
            let mustSchedule = jobs.withLockedValue { jobs in
                jobs.waiting.append(job)
                defer { jobs.isScheduled = true }
                return !jobs.isScheduled
            }
            if mustSchedule { eventLoop.execute { self.run(executor, isScheduledTurn: true) } }
        }

        /// The maximum number of jobs in one turn. Then the event loop does other work.
        private static let maximumJobsPerTurn = 256

        fileprivate func run(_ executor: LoopExecutor, isScheduledTurn: Bool, afterEach: () -> Void = {}) {
            for _ in 0..<Self.maximumJobsPerTurn {
                let job = jobs.withLockedValue { jobs in
                    let job = jobs.waiting.popFirst()
                    // The queue is empty. A turn that is already scheduled still runs, and finds nothing.
                    if job == nil, isScheduledTurn { jobs.isScheduled = false }
                    return job
                }
                guard let job else { return }
                job.runSynchronously(on: executor.asUnownedTaskExecutor())
                afterEach()
            }
            // `execute` would starve the sockets: an event loop runs all executed closures, including new ones, before
            // it polls them.
            if isScheduledTurn {
                eventLoop.scheduleTask(in: .microseconds(50)) { self.run(executor, isScheduledTurn: true) }
            }
        }
    }

    private let queues: [Queue]
    private let home: Queue
    /// Whether the node is closed, so that its event loops may stop at any time.
    private let isRetired = Atomic<Bool>(false)

    /// - Parameters:
    ///   - group: the event loops.
    ///   - home: the event loop for tasks that are resumed on other threads.
    init(_ group: any EventLoopGroup, home: any EventLoop) {
        let queues = group.makeIterator().map { Queue($0) }
        self.queues = queues
        self.home = queues.first { $0.eventLoop === home } ?? Queue(home)
    }

    /// Makes all later jobs run on Swift's global pool.
    func retire() { isRetired.store(true, ordering: .relaxed) }

    func enqueue(_ job: consuming ExecutorJob) {
        if isRetired.load(ordering: .relaxed) { return globalConcurrentExecutor.enqueue(job) }
        let current = MultiThreadedEventLoopGroup.currentEventLoop.flatMap { queue(of: $0) }
        (current ?? home).append(UnownedJob(job), of: self)
    }

    /// Returns the queue of `eventLoop`; `nil` if the executor does not use that event loop.
    func queue(of eventLoop: any EventLoop) -> Queue? {
        queues.first { $0.eventLoop === eventLoop }
    }

    /// Runs the waiting jobs of `queue` now. Must be called on the queue's event loop.
    ///
    /// - Parameter afterEach: called after each job.
    func runWaiting(on queue: Queue?, afterEach: () -> Void = {}) {
        queue?.run(self, isScheduledTurn: false, afterEach: afterEach)
    }
}
