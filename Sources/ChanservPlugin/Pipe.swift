/// Connects a task of the plugin, which may wait, to the polls of the host, which may not.
///
/// The task writes into one queue while the host drains another one. A poll that finds its own queue empty swaps the
/// two. So no lock is held while bytes are copied to the host, and at most two full queues are in memory.
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

    // MARK: The task

    /// Adds an item if there is room now.
    ///
    /// - Parameter append: adds the item to the queue; called with the lock held.
    /// - Returns: `false` if there is no room. The caller waits for room and tries again.
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
                // If the cancellation handler has already run, nothing would resume a stored continuation.
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

    // MARK: The host

    /// Returns the next step of a poll. If items are available, `queue` has at least one. The first call starts the
    /// task.
    ///
    /// - Parameters:
    ///   - queue: the host's queue, which must be empty.
    ///   - handle: the wake handle to use when items are available after ``PipeState/TakeAction/wait``.
    ///   - body: the body of the task.
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

    /// Cancels the task and its waits. Further calls do nothing.
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
