internal import DequeModule
internal import NIOConcurrencyHelpers

/// Executor that runs one job at a time, in submission order, on the threads of another executor.
///
/// All calls into one instance of a `CHANSERV_PLUGIN_SERIAL` library go through it, including cancellations. A queued
/// job holds no thread.
package final class SerialLane: PluginExecutor {
    private enum Work: Sendable {
        case job(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private struct State {
        var queue: Deque<Work> = []
        /// Whether a turn is running on the threads or submitted to them.
        var isBusy = false
    }

    private let threads: PluginThreads
    private let state = NIOLockedValueBox(State())
    /// Maximum number of jobs in one turn. Then other users of the threads get a turn.
    private static let jobsInATurn = 16

    package init(on threads: PluginThreads) {
        self.threads = threads
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        push(.job(UnownedJob(job)))
    }

    package func submit(_ work: @escaping @Sendable () -> Void) {
        push(.closure(work))
    }

    /// Same as ``submit(_:)``. Calls of a serial plugin must not overlap, so urgent work cannot overtake a running
    /// call.
    package func submitUrgent(_ work: @escaping @Sendable () -> Void) {
        push(.closure(work))
    }

    /// Runs `work` only while the lane is idle, because calls of a serial plugin must not overlap.
    package func tryRunInPlace(_ work: () -> Void) -> Bool {
        let isFree = state.withLockedValue { state in
            guard !state.isBusy else { return false }
            state.isBusy = true
            return true
        }
        guard isFree else { return false }
        runInPlace(work)
        let hasMore = state.withLockedValue { state in
            state.isBusy = !state.queue.isEmpty
            return state.isBusy
        }
        if hasMore { threads.submit { self.takeTurn() } }
        return true
    }

    package var isBehind: Bool { threads.isBehind }

    /// Urgent work runs on the same threads as all other work, so `isUrgent` has no effect.
    package func callIsStuck(isUrgent: Bool) { threads.callIsStuck(isUrgent: false) }

    package func stuckCallReturned(isUrgent: Bool) { threads.stuckCallReturned(isUrgent: false) }

    private func push(_ work: Work) {
        let startsTurn = state.withLockedValue { state in
            state.queue.append(work)
            defer { state.isBusy = true }
            return !state.isBusy
        }
        if startsTurn { threads.submit { self.takeTurn() } }
    }

    private func takeTurn() {
        let outer = CurrentPluginExecutor.identity
        CurrentPluginExecutor.identity = Unmanaged.passUnretained(self).toOpaque()
        defer { CurrentPluginExecutor.identity = outer }
        for _ in 0..<Self.jobsInATurn {
            let work = state.withLockedValue { state in
                let work = state.queue.popFirst()
                if work == nil { state.isBusy = false }
                return work
            }
            switch work {
            case nil: return
            case .job(let job): job.runSynchronously(on: asUnownedTaskExecutor())
            case .closure(let closure): closure()
            }
        }
        threads.submit { self.takeTurn() }
    }
}
