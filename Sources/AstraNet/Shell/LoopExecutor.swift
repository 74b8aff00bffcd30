internal import DequeModule
internal import NIOConcurrencyHelpers
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// Runs tasks on a node's event loops: those that mostly wait for its streams and do little when something comes.
///
/// A task that is resumed by what a link has read goes on right there, before the answers to that read leave. Elsewhere each
/// resumption would wake a thread, whose answer would wake the event loop again, which takes longer than what such tasks do.
final class LoopExecutor: TaskExecutor {
    /// The jobs of one event loop.
    final class Queue: Sendable {
        fileprivate let eventLoop: any EventLoop
        private let jobs = NIOLockedValueBox<(waiting: Deque<UnownedJob>, isScheduled: Bool)>(([], false))

        fileprivate init(_ eventLoop: any EventLoop) {
            self.eventLoop = eventLoop
        }

        fileprivate func append(_ job: UnownedJob, of executor: LoopExecutor) {
            let mustTell = jobs.withLockedValue { jobs in
                jobs.waiting.append(job)
                defer { jobs.isScheduled = true }
                return !jobs.isScheduled
            }
            if mustTell { eventLoop.execute { self.run(executor, isScheduledTurn: true) } }
        }

        /// So many jobs run before the event loop has its turn again.
        private static let atOnce = 256

        fileprivate func run(_ executor: LoopExecutor, isScheduledTurn: Bool, afterEach: () -> Void = {}) {
            for _ in 0..<Self.atOnce {
                let job = jobs.withLockedValue { jobs in
                    let job = jobs.waiting.popFirst()
                    // Who finds nothing is done; the turn that was asked for may still come, and find nothing either.
                    if job == nil, isScheduledTurn { jobs.isScheduled = false }
                    return job
                }
                guard let job else { return }
                job.runSynchronously(on: executor.asUnownedTaskExecutor())
                afterEach()
            }
            // Not `execute`: a loop runs all that it was told to, what is told it meanwhile included, before it looks at its sockets.
            if isScheduledTurn {
                eventLoop.scheduleTask(in: .microseconds(50)) { self.run(executor, isScheduledTurn: true) }
            }
        }
    }

    private let queues: [Queue]
    private let home: Queue
    /// The node is closed: its event loops may be gone at any time.
    private let isRetired = Atomic<Bool>(false)

    /// - Parameters:
    ///   - group: the event loops.
    ///   - home: the one of them for what is resumed elsewhere.
    init(_ group: any EventLoopGroup, home: any EventLoop) {
        let queues = group.makeIterator().map { Queue($0) }
        self.queues = queues
        self.home = queues.first { $0.eventLoop === home } ?? Queue(home)
    }

    /// What goes on from now on does so on Swift's own pool.
    func retire() { isRetired.store(true, ordering: .relaxed) }

    func enqueue(_ job: consuming ExecutorJob) {
        if isRetired.load(ordering: .relaxed) { return globalConcurrentExecutor.enqueue(job) }
        let current = MultiThreadedEventLoopGroup.currentEventLoop.flatMap { queue(of: $0) }
        (current ?? home).append(UnownedJob(job), of: self)
    }

    /// The jobs of `eventLoop`, `nil` where it is not one of these.
    func queue(of eventLoop: any EventLoop) -> Queue? {
        queues.first { $0.eventLoop === eventLoop }
    }

    /// Runs what is waiting on `queue` now. On its event loop only.
    ///
    /// - Parameter afterEach: called after each of them.
    func runWaiting(on queue: Queue?, afterEach: () -> Void = {}) {
        queue?.run(self, isScheduledTurn: false, afterEach: afterEach)
    }
}
