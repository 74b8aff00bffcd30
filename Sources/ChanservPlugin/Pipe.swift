/// Joins the task of an author, which waits, to polls of the host, which never do.
///
/// The task writes into one queue while the host drains another; a poll that finds its own empty swaps them. So no lock
/// is held while bytes are copied to the host, and no more than two queues' bounds are ever in memory.
final class Pipe<Queue: PipeQueue>: Sendable {
    private struct State {
        var machine = PipeState<Queue>()
        var writers: [UInt64: CheckedContinuation<Void, any Error>] = [:]
        var nextWriter: UInt64 = 0
        var task: Task<Void, Never>?
    }

    private let state = Locked(State())
    private let host: Host

    init(host: Host) {
        self.host = host
    }

    // MARK: The author's side

    /// Adds an item, where there is room for it now.
    ///
    /// - Parameter append: adds it to the queue, with the lock held.
    /// - Returns: `false` where there is none: wait for room, and try again.
    func tryToWrite(size: Int, _ append: (inout Queue) -> Void) throws -> Bool {
        switch state.withLock({ $0.machine.write(size: size, append) }) {
        case .accepted:
            return true
        case .acceptedAndWake(let handle):
            host.wake(handle)
            return true
        case .cancelled:
            throw CancellationError()
        case .full:
            return false
        }
    }

    func write(size: Int, _ append: (inout Queue) -> Void) async throws {
        while try !tryToWrite(size: size, append) { try await waitForRoom() }
    }

    func waitForRoom() async throws {
        let writer = state.withLock { state in
            state.nextWriter += 1
            return state.nextWriter
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                // The handler may have run already: then nobody would resume it.
                let waits = state.withLock { state in
                    guard state.machine.isFull, !Task.isCancelled else { return false }
                    state.writers[writer] = continuation
                    return true
                }
                if !waits {
                    continuation.resume(with: Task.isCancelled ? .failure(CancellationError()) : .success(()))
                }
            }
        } onCancel: {
            state.withLock { $0.writers.removeValue(forKey: writer) }?.resume(throwing: CancellationError())
        }
    }

    // MARK: The host's side

    /// What a poll may do next, with at least one item in `queue` where there are any. Starts the task at the first.
    ///
    /// - Parameters:
    ///   - queue: the host's own, empty.
    ///   - handle: what to wake when there is something after ``PipeState/TakeAction/wait``.
    ///   - body: the author's part.
    func take(
        into queue: inout Queue, wake handle: UInt64, body: @escaping @Sendable () async throws -> Void
    ) -> PipeState<Queue>.TakeAction {
        let (action, writers) = state.withLock { state in
            if state.machine.start() {
                state.task = Task {
                    do {
                        try await body()
                        self.finish(.success(()))
                    } catch {
                        self.finish(.failure(PluginError(describing: error)))
                    }
                }
            }
            let action = state.machine.take(into: &queue, wake: handle)
            var writers: [CheckedContinuation<Void, any Error>] = []
            if case .drain = action, !state.writers.isEmpty {
                writers = Array(state.writers.values)
                state.writers = [:]
            }
            return (action, writers)
        }
        writers.forEach { $0.resume() }
        return action
    }

    private func finish(_ result: Result<Void, PluginError>) {
        let handle = state.withLock { state in
            state.task = nil
            return state.machine.finish(result)
        }
        if let handle { host.wake(handle) }
    }

    /// Ends the task and its waits. It may repeat.
    func cancel() {
        let (handle, task, writers) = state.withLock { state in
            let handle = state.machine.cancel()
            let writers = Array(state.writers.values)
            state.writers = [:]
            let task = state.task
            state.task = nil
            return (handle, task, writers)
        }
        task?.cancel()
        writers.forEach { $0.resume(throwing: CancellationError()) }
        if let handle { host.wake(handle) }
    }
}
