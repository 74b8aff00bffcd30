/// State machine between a task of the plugin and the polls of the host. It has no lock, task or host.
struct PipeState<Queue: PipeQueue> {
    private var queue = Queue()
    private var started = false
    private var cancelled = false
    private var result: Result<Void, PluginError>?
    // The wake handle while the host waits after a poll that found nothing. It must be woken once.
    private var sleeper: UInt64?

    /// The result of a write.
    enum WriteAction {
        case accepted
        /// Accepted, and the host must be woken.
        case acceptedAndWake(UInt64)
        /// Not accepted: wait until there is room.
        case full
        /// Not accepted: the pipe was cancelled.
        case cancelled
    }

    /// Writes an item.
    ///
    /// - Parameters:
    ///   - size: the size of the item.
    ///   - append: adds the item to the queue. Called only if the item is accepted.
    mutating func write(size: Int, _ append: (inout Queue) -> Void) -> WriteAction {
        if cancelled { return .cancelled }
        guard queue.isEmpty || queue.hasCapacity(for: size) else {
            isFull = true
            return .full
        }
        append(&queue)
        guard let handle = sleeper.take() else { return .accepted }
        return .acceptedAndWake(handle)
    }

    /// Whether a write was rejected since the queue was last taken. Only then a writer may wait for room.
    private(set) var isFull = false

    /// Returns whether the task must be started now: once, unless it was cancelled before.
    mutating func start() -> Bool {
        guard !started, !cancelled else { return false }
        started = true
        return true
    }

    /// The next step of a poll.
    enum TakeAction {
        /// Pass on the items of the poll's queue. There is room for waiting writers.
        case drain
        /// Return that there is nothing now.
        case wait
        /// Return that there will be no more items.
        case end
        /// Return the error.
        case fail(PluginError)
    }

    /// Takes the queued items.
    ///
    /// - Parameters:
    ///   - other: the poll's queue, which must be empty. It is swapped with the filled queue.
    ///   - handle: the wake handle to use when items are available after ``TakeAction/wait``.
    mutating func take(into other: inout Queue, wake handle: UInt64) -> TakeAction {
        if cancelled { return .fail(PluginError(describing: CancellationError())) }
        if !queue.isEmpty {
            swap(&queue, &other)
            isFull = false
            return .drain
        }
        switch result {
        case .success: return .end
        case .failure(let error): return .fail(error)
        case nil:
            sleeper = handle
            return .wait
        }
    }

    /// Records that the task has ended. Returns the handle that must be woken.
    mutating func finish(_ result: Result<Void, PluginError>) -> UInt64? {
        self.result = result
        return sleeper.take()
    }

    /// Cancels the pipe. Returns the handle that must be woken.
    mutating func cancel() -> UInt64? {
        cancelled = true
        isFull = false
        queue = Queue()
        return sleeper.take()
    }
}
