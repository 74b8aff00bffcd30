import DequeModule
import NIOEmbedded

/// A task executor that runs jobs on the event loop of the world, in the order in which they became ready. So `async`
/// code is deterministic too.
///
/// `@unchecked Sendable`: a world uses one thread, and its event loop runs all jobs there.
final class LoopExecutor: TaskExecutor, @unchecked Sendable {
    private let loop: EmbeddedEventLoop
    private var jobs: Deque<UnownedJob> = []
    private var isScheduled = false

    init(loop: EmbeddedEventLoop) {
        self.loop = loop
    }

    func enqueue(_ job: consuming ExecutorJob) {
        jobs.append(UnownedJob(job))
        guard !isScheduled else { return }
        isScheduled = true
        loop.execute { self.drain() }
    }

    private func drain() {
        isScheduled = false
        while let job = jobs.popFirst() { job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}
