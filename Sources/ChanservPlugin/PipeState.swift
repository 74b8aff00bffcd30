/// What stands between an author's task and the polls of the host, as a machine without a lock, a task or a host.
struct PipeState<Queue: PipeQueue> {
    private var queue = Queue()
    private var started = false
    private var cancelled = false
    private var result: Result<Void, PluginError>?
    // Set while the host waits after a poll that found nothing; it has to be woken once.
    private var sleeper: UInt64?

    /// What became of an item.
    enum WriteAction {
        case accepted
        /// Accepted, and the host has to be woken.
        case acceptedAndWake(UInt64)
        /// Not accepted: wait until there is room.
        case full
        /// Not accepted: nobody will ever ask for it.
        case cancelled
    }

    /// - Parameters:
    ///   - size: the item's.
    ///   - append: adds it to the queue; called only where it is accepted.
    mutating func write(size: Int, _ append: (inout Queue) -> Void) -> WriteAction {
        if cancelled { return .cancelled }
        guard queue.isEmpty || queue.hasRoom(for: size) else {
            isFull = true
            return .full
        }
        append(&queue)
        guard let handle = sleeper.take() else { return .accepted }
        return .acceptedAndWake(handle)
    }

    /// Whether an item was refused since the queue was taken, so that its writer has something to wait for.
    private(set) var isFull = false

    /// Whether the task has to be started now: once, unless it was cancelled before.
    mutating func start() -> Bool {
        guard !started, !cancelled else { return false }
        started = true
        return true
    }

    /// What a poll does next.
    enum TakeAction {
        /// Hands on what is in its queue now. Whoever waits for room has some.
        case drain
        /// Answers that there is nothing now.
        case wait
        /// Answers that there will be no more.
        case end
        /// Answers with the error.
        case fail(PluginError)
    }

    /// - Parameters:
    ///   - other: the poll's queue, empty; it changes places with the filled one.
    ///   - handle: what to wake when there is something, after ``TakeAction/wait``.
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

    /// The author's task has ended. Returns what has to be woken.
    mutating func finish(_ result: Result<Void, PluginError>) -> UInt64? {
        self.result = result
        return sleeper.take()
    }

    /// Nobody wants any more of it. Returns what has to be woken.
    mutating func cancel() -> UInt64? {
        cancelled = true
        isFull = false
        queue = Queue()
        return sleeper.take()
    }
}
