internal import DequeModule
internal import NIOConcurrencyHelpers

/// An executor that runs one job at a time, first in, first out, on the threads of another: what the calls into one
/// instance of a `CHANSERV_PLUGIN_SERIAL` library go through, cancellations included.
///
/// A waiting job holds no thread.
package final class SerialLane: PluginExecutor {
    private enum Work: Sendable {
        case job(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private struct State {
        var queue: Deque<Work> = []
        /// Whether a turn is running on, or submitted to, the threads.
        var isBusy = false
    }

    private let threads: PluginThreads
    private let state = NIOLockedValueBox(State())
    /// So many jobs are run in one turn before other users of the threads get theirs.
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

    /// The same as ``submit(_:)``: nothing may overlap, so nothing can overtake a call that runs.
    package func submitUrgent(_ work: @escaping @Sendable () -> Void) {
        push(.closure(work))
    }

    /// Only while the lane is free: calls of a serial plugin must not overlap.
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

    /// Urgent work runs on the same threads as all other.
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
