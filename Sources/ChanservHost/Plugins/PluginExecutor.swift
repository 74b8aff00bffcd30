internal import Glibc
internal import NIOPosix

/// Runs the functions of a plugin on threads made for plugins, never on an event loop or Swift's cooperative pool.
package protocol PluginExecutor: TaskExecutor {
    /// Runs `work` soon, in the order of submission as far as this executor has an order.
    func submit(_ work: @escaping @Sendable () -> Void)

    /// As ``submit(_:)``, for what others do not wait for: where one of the executor's own threads asks, it is that thread which
    /// runs it when its present job is over, so that no other one need be woken. Not where that job may block.
    func submitUnhurried(_ work: @escaping @Sendable () -> Void)

    /// Runs `work` even when all threads are held up in blocking calls: a cancellation must get past them.
    func submitUrgent(_ work: @escaping @Sendable () -> Void)

    /// Runs `work` on this thread, which is not the executor's, as if it were, if nothing that runs on the executor forbids it.
    ///
    /// - Returns: whether it ran.
    func tryRunInPlace(_ work: () -> Void) -> Bool

    /// Whether jobs wait for a thread, so that one that goes on and on should give way now and then. A hint.
    var isBehind: Bool { get }

    /// A plugin's function holds one of the threads and does not return: another one takes its place, so that the
    /// other plugins are served. Once for each such call, followed by ``stuckCallReturned(isUrgent:)`` if it ever does.
    ///
    /// - Parameter isUrgent: it came through ``submitUrgent(_:)``.
    func callIsStuck(isUrgent: Bool)

    func stuckCallReturned(isUrgent: Bool)
}

extension PluginExecutor {
    package func submitUnhurried(_ work: @escaping @Sendable () -> Void) { submit(work) }

    /// Whether the code that asks runs on this executor now.
    package var isCurrent: Bool {
        CurrentPluginExecutor.identity == Unmanaged.passUnretained(self).toOpaque()
    }

    /// Runs `work` on this executor and waits for its result. Not cancelled with the task: the work is done in any case.
    nonisolated(nonsending) package func run<Value: Sendable>(
        _ work: @escaping @Sendable () -> Value
    ) async -> Value {
        await withUnsafeContinuation { continuation in
            submit { continuation.resume(returning: work()) }
        }
    }
}

extension PluginExecutor {
    /// Runs `work` on a network thread as if it were one of the executor's.
    func runInPlace(_ work: () -> Void) {
        let outer = CurrentPluginExecutor.identity
        CurrentPluginExecutor.identity = Unmanaged.passUnretained(self).toOpaque()
        defer { CurrentPluginExecutor.identity = outer }
        work()
    }
}

/// Which executor runs on this thread, held where only this thread sees it.
enum CurrentPluginExecutor {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let result = pthread_key_create(&key, nil)
        precondition(result == 0, "no thread-specific key: \(systemMessage(result))")
        return key
    }()

    /// Whether this is a network thread that runs a plugin's function in place.
    static var isOnNetworkThread: Bool { MultiThreadedEventLoopGroup.currentEventLoop != nil }

    /// The executor's address, never followed.
    static var identity: UnsafeMutableRawPointer? {
        get { pthread_getspecific(key) }
        set { pthread_setspecific(key, newValue) }
    }
}
