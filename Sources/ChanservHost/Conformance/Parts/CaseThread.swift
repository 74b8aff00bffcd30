internal import Glibc

/// A thread that runs one closure, as the host's threads for plugins are: plain, with the usual stack.
///
/// `@unchecked Sendable`: `id` is written before anybody else has the object.
final class CaseThread: @unchecked Sendable {
    private final class Work: Sendable {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private var id = pthread_t()

    /// Starts it.
    init(_ body: @escaping @Sendable () -> Void) {
        let work = Unmanaged.passRetained(Work(body))
        let result = pthread_create(
            &id, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            }, work.toOpaque())
        precondition(result == 0, "no thread for a case can be started: \(systemMessage(result))")
    }

    /// Waits for its end. To be called once.
    func join() {
        pthread_join(id, nil)
    }

    /// Lets it end when it will, instead of ``join()``.
    func detach() {
        pthread_detach(id)
    }

    /// Runs `body` on `count` threads at the same time, with their numbers, and waits for all.
    static func together(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
        let threads = (0..<count).map { number in CaseThread { body(number) } }
        for thread in threads { thread.join() }
    }
}
