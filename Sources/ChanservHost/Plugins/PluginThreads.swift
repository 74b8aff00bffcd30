internal import DequeModule
internal import Glibc
internal import Synchronization

/// A bounded number of threads that run jobs first in, first out.
///
/// Threads are started as jobs find none free, up to the limit, and wait for more. After ``retire()`` they end when
/// there is nothing to do; a job that comes even later (the tail of a task whose plugin is gone) starts one again, so a
/// job is never lost and never runs elsewhere.
///
/// `@unchecked Sendable`: `state` is touched under `mutex` only; all else is constant.
package final class PluginThreads: PluginExecutor, @unchecked Sendable {
    private enum Work {
        case job(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private struct State {
        /// Bounded by what submits: one job for each live task, one closure for each open, close and cancel.
        var queue: Deque<Work> = []
        var threads = 0
        /// Threads in `pthread_cond_wait`, including those signalled that have not woken yet.
        var waiting = 0
        /// One of them was signalled and has not woken yet. It wakes the next one if there is more to do than it takes itself: of
        /// many small jobs that come at once, the first thread does most before a second one could run.
        var isSignalled = false
        var started = 0
        /// Threads that plugins do not give back, for each of which there may be one more.
        var stuck = 0
        var isRetired = false
    }

    /// For thread names, logs and messages.
    package let name: String
    /// At most this many jobs run at the same time.
    package let limit: Int

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state = State()
    /// Whether the queue is longer than there are threads waiting, for ``isBehind``.
    private let backlog = Atomic<Bool>(false)
    /// One thread beside the others for what must not wait for them.
    private let urgent: PluginThreads?

    /// How many threads ordinary plugins share unless configured: twice the cores, at least 4.
    package static var defaultSharedLimit: Int { max(4, 2 * sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// - Parameters:
    ///   - name: the threads are called `name-1`, `name-2` … (cut to the system's 15 bytes).
    ///   - limit: the number of threads, at least 1.
    package convenience init(name: String, limit: Int) {
        self.init(name: name, limit: limit, urgent: PluginThreads(name: "\(name)!", limit: 1, urgent: nil))
    }

    private init(name: String, limit: Int, urgent: PluginThreads?) {
        precondition(limit >= 1, "a plugin executor needs a thread")
        self.name = name
        self.limit = limit
        self.urgent = urgent
        let result = (pthread_mutex_init(mutex, nil), pthread_cond_init(condition, nil))
        precondition(result == (0, 0), "no mutex and condition: \(result)")
    }

    deinit {
        // Every thread holds a reference, so none is left to use these.
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        push(.job(UnownedJob(job)))
    }

    package func submit(_ work: @escaping @Sendable () -> Void) {
        push(.closure(work))
    }

    package func submitUnhurried(_ work: @escaping @Sendable () -> Void) {
        push(.closure(work), wakesOthers: !isCurrent)
    }

    package func submitUrgent(_ work: @escaping @Sendable () -> Void) {
        (urgent ?? self).submit(work)
    }

    /// Lets the threads end once there is nothing left to do.
    package func retire() {
        withState { state in
            state.isRetired = true
            pthread_cond_broadcast(condition)
        }
        urgent?.retire()
    }

    package func tryRunInPlace(_ work: () -> Void) -> Bool {
        runInPlace(work)
        return true
    }

    package var isBehind: Bool { backlog.load(ordering: .relaxed) }

    package func callIsStuck(isUrgent: Bool) {
        if isUrgent, let urgent { return urgent.callIsStuck(isUrgent: false) }
        let helper: Helper = withState { state in
            guard state.stuck < Self.stuckLimit else { return .none }
            state.stuck += 1
            return state.queue.isEmpty ? .none : nextHelper(&state)
        }
        call(helper)
    }

    package func stuckCallReturned(isUrgent: Bool) {
        if isUrgent, let urgent { return urgent.stuckCallReturned(isUrgent: false) }
        withState { state in
            state.stuck = max(0, state.stuck - 1)
            // Threads above the limit find out and end.
            pthread_cond_broadcast(condition)
        }
    }

    /// So many threads are replaced; a plugin that hangs more often than this has taken down more than itself.
    private static let stuckLimit = 64

    /// How many threads there are now, not counting the one for urgent work.
    package var threadCount: Int { withState { $0.threads } }

    private enum Helper {
        case none, waiting
        case new(Int)
    }

    /// - Parameter wakesOthers: `false` where the thread that calls this looks for more work soon itself.
    private func push(_ work: Work, wakesOthers: Bool = true) {
        let helper: Helper = withState { state in
            state.queue.append(work)
            return wakesOthers ? nextHelper(&state) : .none
        }
        call(helper)
    }

    /// Who is to help with the queue, which is not empty.
    private func nextHelper(_ state: inout State) -> Helper {
        guard !state.isSignalled else { return .none }
        guard state.waiting > 0 else { return nextThread(&state).map { .new($0) } ?? .none }
        state.isSignalled = true
        return .waiting
    }

    /// Without the lock, which the thread that wakes needs at once.
    private func call(_ helper: Helper) {
        switch helper {
        case .none: break
        case .waiting: pthread_cond_signal(condition)
        case .new(let number): startThread(number)
        }
    }

    /// Counts another thread if there may be one.
    ///
    /// - Returns: its number, for ``startThread(_:)`` once the lock is free.
    private func nextThread(_ state: inout State) -> Int? {
        guard state.threads < limit + state.stuck else { return nil }
        state.threads += 1
        state.started += 1
        return state.started
    }

    /// What a new thread is told; it gives itself its name, so that it has it before it runs anything.
    private final class Beginning: Sendable {
        let threads: PluginThreads
        let number: Int

        init(_ threads: PluginThreads, _ number: Int) {
            self.threads = threads
            self.number = number
        }
    }

    private func startThread(_ number: Int) {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Beginning(self, number))
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let beginning = Unmanaged<Beginning>.fromOpaque(argument).takeRetainedValue()
                beginning.threads.runThread(beginning.number)
                return nil
            }, argument.toOpaque())
        if result == 0 {
            pthread_detach(thread)
            return
        }
        argument.release()
        // With threads left the work is done later; with none it would never be, and it must not be done here.
        let left = withState { state in
            state.threads -= 1
            return state.threads
        }
        precondition(left > 0, "no thread for plugins can be started: \(systemMessage(result))")
    }

    private func runThread(_ number: Int) {
        let suffix = "-\(number)"
        setName(of: pthread_self(), "\(name.prefix(max(0, 15 - suffix.utf8.count)))\(suffix)")
        CurrentPluginExecutor.identity = Unmanaged.passUnretained(self).toOpaque()
        while let work = next() {
            switch work {
            case .job(let job): job.runSynchronously(on: asUnownedTaskExecutor())
            case .closure(let closure): closure()
            }
        }
    }

    /// The next job, waiting for one; `nil` when the thread is to end.
    private func next() -> Work? {
        let (work, helper) = withState { state -> (Work?, Helper) in
            while true {
                if state.threads <= limit + state.stuck, let work = state.queue.popFirst() {
                    return (work, state.queue.isEmpty ? .none : nextHelper(&state))
                }
                guard !state.isRetired, state.threads <= limit + state.stuck else {
                    state.threads -= 1
                    // This thread ends: another one takes what is queued.
                    return (nil, state.queue.isEmpty || state.waiting == 0 ? .none : nextHelper(&state))
                }
                state.waiting += 1
                pthread_cond_wait(condition, mutex)
                state.waiting -= 1
                state.isSignalled = false
            }
        }
        call(helper)
        return work
    }

    private func withState<Result>(_ body: (inout State) -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer {
            backlog.store(state.queue.count > state.waiting, ordering: .relaxed)
            pthread_mutex_unlock(mutex)
        }
        return body(&state)
    }
}

/// `pthread_setname_np`, which the C library's headers show to GNU sources only.
private let setNameFunction = dlsym(nil, "pthread_setname_np").map {
    unsafeBitCast($0, to: (@convention(c) (pthread_t, UnsafePointer<CChar>) -> Int32).self)
}

/// For `ps -L` and debuggers. A name that is too long is refused, which is no failure worth telling.
private func setName(of thread: pthread_t, _ name: String) {
    _ = setNameFunction?(thread, name)
}
