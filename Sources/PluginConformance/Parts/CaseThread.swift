internal import Glibc
internal import PluginRuntime

/// A thread that runs one closure, with the default stack, like the host's threads for plugins.
///
/// `@unchecked Sendable`: `id` is written before the object is shared.
final class CaseThread: @unchecked Sendable {
    private final class Work: Sendable {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private var id = pthread_t()

    /// Starts the thread.
    init(_ body: @escaping @Sendable () -> Void) {
        let work = Unmanaged.passRetained(Work(body))
        let result = pthread_create(
            &id, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            }, work.toOpaque())
        precondition(result == 0, "cannot start a thread for a case: \(systemMessage(result))")
    }

    /// Waits for the end of the thread. Call it once.
    func join() {
        pthread_join(id, nil)
    }

    /// Lets the thread end by itself. Call it instead of ``join()``.
    func detach() {
        pthread_detach(id)
    }

    /// Runs `body` on `count` threads at the same time, each with its number, and waits for all.
    static func together(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
        let threads = (0..<count).map { number in CaseThread { body(number) } }
        for thread in threads { thread.join() }
    }
}
