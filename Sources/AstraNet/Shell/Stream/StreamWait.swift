extension MeshStream {
    /// The kinds of waits on a stream.
    enum Wait: Sendable {
        /// Wait for the peer's answer to this node's DIAL.
        case opening
        /// Wait for bytes or the end of the stream.
        case reading
        /// Wait until the reader's buffer is filled or the stream ends.
        case filling
        /// Wait until more bytes may be queued.
        case writing
        /// Wait for bytes, a pushed source or the end of the stream.
        case masterEvent

        static let all: [Wait] = [.opening, .reading, .filling, .writing, .masterEvent]
    }

    /// The suspended tasks of a stream, at most one for each kind of wait.
    struct Waiters {
        private var opening: Waiter?
        private var reading: Waiter?
        private var filling: Waiter?
        private var writing: Waiter?
        private var masterEvent: Waiter?

        /// Whether a task waits for received bytes.
        var awaitsBytes: Bool { reading != nil || masterEvent != nil }

        var isEmpty: Bool { opening == nil && reading == nil && filling == nil && writing == nil && masterEvent == nil }

        subscript(wait: Wait) -> Waiter? {
            get {
                switch wait {
                case .opening: opening
                case .reading: reading
                case .filling: filling
                case .writing: writing
                case .masterEvent: masterEvent
                }
            }
            set {
                switch wait {
                case .opening: opening = newValue
                case .reading: reading = newValue
                case .filling: filling = newValue
                case .writing: writing = newValue
                case .masterEvent: masterEvent = newValue
                }
            }
        }
    }
}

/// A place where a task waits on a stream.
struct StreamWaitPlace: WaitPlace {
    let stream: MeshStream
    let kind: MeshStream.Wait

    func put(_ waiter: Waiter) -> Bool {
        stream.withStorage { storage in
            // An event occurred after the task checked the stream, so the task must check again.
            if storage.isReady(kind) { return false }
            let active = storage.activate()
            precondition(active.state.waiters[kind] == nil, "two tasks wait on one direction of a stream")
            active.state.waiters[kind] = waiter
            return true
        }
    }

    func takeWaiter(_ id: UInt32) -> Waiter? {
        stream.withStorage { storage in
            guard let active = storage.active, let waiter = active.state.waiters[kind], waiter.id == id else {
                return nil
            }
            active.state.waiters[kind] = nil
            storage.deactivateIfIdle()
            return waiter
        }
    }
}

/// The tasks of a stream whose wait is over. They are resumed outside the lock.
struct WaiterList {
    private var first: Waiter?
    private var others: [Waiter] = []
    /// Whether a task of the list waited in ``MeshStream/receive(deadline:)``.
    fileprivate(set) var hasReader = false

    mutating func append(_ waiter: Waiter) {
        if first == nil { first = waiter } else { others.append(waiter) }
    }

    func resume() {
        first?.resume()
        for waiter in others { waiter.resume() }
    }
}

extension MeshStream.Storage {
    /// Returns whether a task with this kind of wait can continue.
    func isReady(_ wait: MeshStream.Wait) -> Bool {
        switch wait {
        case .opening: return opening != nil
        case .reading: return unread > 0 || state.reading != .open
        case .filling: return filled != nil
        case .writing:
            switch state.writing {
            case .over: return true
            case .ending(let ending) where ending != .finish: return true
            case .open, .ending: return hasCapacity
            }
        case .masterEvent: return unread > 0 || hasOffered || state.reading != .open
        }
    }

    /// Removes and returns the tasks whose wait is over.
    mutating func takeWaiters() -> WaiterList {
        var list = WaiterList()
        guard let active, !active.state.waiters.isEmpty else { return list }
        for wait in MeshStream.Wait.all {
            guard let waiter = active.state.waiters[wait], isReady(wait) else { continue }
            active.state.waiters[wait] = nil
            list.append(waiter)
            if wait == .reading { list.hasReader = true }
        }
        deactivateIfIdle()
        return list
    }
}
