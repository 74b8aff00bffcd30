internal import Glibc
internal import NIOPosix

/// Executor that runs the functions of a plugin on threads reserved for plugins. It never uses an event loop or Swift's
/// cooperative pool, except through ``tryRunInPlace(_:)``.
package protocol PluginExecutor: TaskExecutor {
    /// Runs `work` soon. Work runs in the order of submission if this executor keeps an order.
    func submit(_ work: @escaping @Sendable () -> Void)

    /// Runs `work` soon, like ``submit(_:)``, for work that no caller waits for.
    ///
    /// If the caller is one of the executor's own threads, that thread runs the work after its current job. This saves
    /// waking another thread. Do not use it if the current job may block.
    func submitUnhurried(_ work: @escaping @Sendable () -> Void)

    /// Runs `work` even if blocking calls occupy all threads. A cancellation must not wait for those calls.
    func submitUrgent(_ work: @escaping @Sendable () -> Void)

    /// Runs `work` on the calling thread as if it belonged to the executor, unless a job that is running on the
    /// executor prevents it. The calling thread is not one of the executor's threads.
    ///
    /// - Returns: whether `work` ran.
    func tryRunInPlace(_ work: () -> Void) -> Bool

    /// Whether jobs wait for a thread. A long-running job should then yield. The value is a hint.
    var isBehind: Bool { get }

    /// Reports that a plugin function occupies a thread and does not return. Another thread replaces it so that other
    /// plugins are still served.
    ///
    /// Called once for each such call. ``stuckCallReturned(isUrgent:)`` follows if the call returns.
    ///
    /// - Parameter isUrgent: whether the call was submitted with ``submitUrgent(_:)``.
    func callIsStuck(isUrgent: Bool)

    func stuckCallReturned(isUrgent: Bool)
}

extension PluginExecutor {
    package func submitUnhurried(_ work: @escaping @Sendable () -> Void) { submit(work) }

    /// Whether the caller runs on this executor.
    package var isCurrent: Bool {
        CurrentPluginExecutor.identity == Unmanaged.passUnretained(self).toOpaque()
    }

    /// Runs `work` on this executor and waits for its result. Cancelling the task does not cancel the work.
    nonisolated(nonsending) package func run<Value: Sendable>(
        _ work: @escaping @Sendable () -> Value
    ) async -> Value {
        await withUnsafeContinuation { continuation in
            submit { continuation.resume(returning: work()) }
        }
    }
}

extension PluginExecutor {
    /// Runs `work` on the current event loop thread as if it belonged to the executor.
    func runInPlace(_ work: () -> Void) {
        let outer = CurrentPluginExecutor.identity
        CurrentPluginExecutor.identity = Unmanaged.passUnretained(self).toOpaque()
        defer { CurrentPluginExecutor.identity = outer }
        work()
    }
}

/// Identity of the executor that runs on this thread, stored in thread-specific data.
enum CurrentPluginExecutor {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let result = pthread_key_create(&key, nil)
        precondition(result == 0, "no thread-specific key: \(systemMessage(result))")
        return key
    }()

    /// Whether the current thread is an event loop thread, which runs a plugin function inline.
    static var isOnNetworkThread: Bool { MultiThreadedEventLoopGroup.currentEventLoop != nil }

    /// Address of the executor. It is compared and never dereferenced.
    static var identity: UnsafeMutableRawPointer? {
        get { pthread_getspecific(key) }
        set { pthread_setspecific(key, newValue) }
    }
}
