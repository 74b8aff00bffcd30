import DequeModule
import NIOEmbedded

/// Runs tasks on the world's one event loop, in the order in which they became ready, so that what is `async` is as
/// deterministic as the rest.
///
/// `@unchecked Sendable`: a world lives on one thread, and every job of its tasks is run by its event loop there.
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
