internal import DequeModule
internal import Glibc
internal import Synchronization

/// Bounded pool of threads that runs jobs in submission order.
///
/// A thread is started when a job finds no idle thread, up to the limit. Idle threads wait for more jobs. After
/// ``retire()`` threads end when the queue is empty. A job that arrives even later, from a task that outlives its
/// plugin, starts a thread again. So no job is lost or runs elsewhere.
///
/// `@unchecked Sendable`: `state` is accessed only under `mutex`. All other stored properties are constant or atomic.
package final class PluginThreads: PluginExecutor, @unchecked Sendable {
    private enum Work {
        case job(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private struct State {
        /// Bounded by the submitters: one job per live task, one closure per open, close and cancel.
        var queue: Deque<Work> = []
        var threads = 0
        /// Number of threads in `pthread_cond_wait`, including signalled threads that have not woken yet.
        var waiting = 0
        /// Whether a waiting thread was signalled and has not woken yet. It wakes the next thread if the queue holds
        /// more than it takes. Of many small jobs that arrive at once, the first thread runs most before a second one
        /// could start.
        var isSignalled = false
        var started = 0
        /// Number of threads in calls that do not return. Each of them allows one additional thread.
        var stuck = 0
        var isRetired = false
    }

    /// Name for threads, logs and messages.
    package let name: String
    /// Maximum number of jobs that run at the same time.
    package let limit: Int

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state = State()
    /// Whether the queue is longer than the number of waiting threads, for ``isBehind``.
    private let backlog = Atomic<Bool>(false)
    /// Pool of one additional thread for urgent work.
    private let urgent: PluginThreads?

    /// Default number of threads that non-blocking plugins share: twice the number of cores, at least 4.
    package static var defaultSharedLimit: Int { max(4, 2 * sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// - Parameters:
    ///   - name: prefix of the thread names `name-1`, `name-2` …, which are cut to 15 bytes, the limit of the system.
    ///   - limit: maximum number of threads, at least 1.
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
        // Every thread holds a reference to the pool, so none is left.
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

    /// Lets the threads end when the queue is empty.
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
            // Threads above the limit wake up and end.
            pthread_cond_broadcast(condition)
        }
    }

    /// Maximum number of stuck threads that are replaced.
    private static let stuckLimit = 64

    /// Current number of threads, without the one for urgent work.
    package var threadCount: Int { withState { $0.threads } }

    private enum Helper {
        case none, waiting
        case new(Int)
    }

    /// - Parameter wakesOthers: `false` if the calling thread takes the next job itself soon.
    private func push(_ work: Work, wakesOthers: Bool = true) {
        let helper: Helper = withState { state in
            state.queue.append(work)
            return wakesOthers ? nextHelper(&state) : .none
        }
        call(helper)
    }

    /// Chooses the thread that helps with the queue, which is not empty.
    private func nextHelper(_ state: inout State) -> Helper {
        guard !state.isSignalled else { return .none }
        guard state.waiting > 0 else { return nextThread(&state).map { .new($0) } ?? .none }
        state.isSignalled = true
        return .waiting
    }

    /// Wakes or starts the helper. The caller must not hold the lock, because the helper needs it at once.
    private func call(_ helper: Helper) {
        switch helper {
        case .none: break
        case .waiting: pthread_cond_signal(condition)
        case .new(let number): startThread(number)
        }
    }

    /// Counts another thread if the limit allows one.
    ///
    /// - Returns: number of the thread, for ``startThread(_:)`` after the lock is released.
    private func nextThread(_ state: inout State) -> Int? {
        guard state.threads < limit + state.stuck else { return nil }
        state.threads += 1
        state.started += 1
        return state.started
    }

    /// Argument of a new thread. The thread names itself before it runs any job.
    private final class StartArgument: Sendable {
        let threads: PluginThreads
        let number: Int

        init(_ threads: PluginThreads, _ number: Int) {
            self.threads = threads
            self.number = number
        }
    }

    private func startThread(_ number: Int) {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(StartArgument(self, number))
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<StartArgument>.fromOpaque(argument).takeRetainedValue()
                start.threads.runThread(start.number)
                return nil
            }, argument.toOpaque())
        if result == 0 {
            pthread_detach(thread)
            return
        }
        argument.release()
        // If other threads exist, they run the job later. Without any thread it would never run, and it must not run
        // here.
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

    /// Returns the next job and waits for one if necessary. Returns `nil` when the thread must end.
    private func next() -> Work? {
        let (work, helper) = withState { state -> (Work?, Helper) in
            while true {
                if state.threads <= limit + state.stuck, let work = state.queue.popFirst() {
                    return (work, state.queue.isEmpty ? .none : nextHelper(&state))
                }
                guard !state.isRetired, state.threads <= limit + state.stuck else {
                    state.threads -= 1
                    // This thread ends. Another one takes the queued jobs.
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

/// `pthread_setname_np`, which glibc declares only with `_GNU_SOURCE`.
private let setNameFunction = dlsym(nil, "pthread_setname_np").map {
    unsafeBitCast($0, to: (@convention(c) (pthread_t, UnsafePointer<CChar>) -> Int32).self)
}

/// Sets the thread name for `ps -L` and debuggers. The system rejects a name that is too long; that failure is ignored.
private func setName(of thread: pthread_t, _ name: String) {
    _ = setNameFunction?(thread, name)
}
