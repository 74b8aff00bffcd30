/// State machine that decides which reload answers which request for one. However many requests arrive during a reload,
/// exactly one more reload follows.
///
/// A request that arrives during a reload is answered by the *next* one, because the running one may have read the file
/// before it was changed.
package struct ReloadMachine: Sendable {
    package enum State: Hashable, Sendable {
        case idle
        /// The reload with this number runs.
        case running(UInt64)
        /// The reload with this number runs, and another one was requested.
        case runningAndAgain(UInt64)
        /// The host stops when the reload with this number has ended. No other reload begins.
        case stopping(UInt64)
        case stopped
    }

    package private(set) var state: State = .idle
    private var last: UInt64 = 0

    package init() {}

    package enum RequestAction: Hashable, Sendable {
        /// Run the reload with this number now; it answers the request.
        case begin(UInt64)
        /// The reload with this number will answer the request. The caller only waits.
        case awaitReload(UInt64)
        /// The host is stopping: no other reload follows.
        case refuse
    }

    /// Handles a request to reload.
    package mutating func requested() -> RequestAction {
        switch state {
        case .idle:
            last += 1
            state = .running(last)
            return .begin(last)
        case .running(let number), .runningAndAgain(let number):
            state = .runningAndAgain(number)
            return .awaitReload(number + 1)
        case .stopping, .stopped:
            return .refuse
        }
    }

    package enum FinishAction: Hashable, Sendable {
        /// Run the reload with this number now.
        case begin(UInt64)
        case rest
        /// Continue the shutdown that waited for the reload.
        case stop
    }

    /// Handles the end of the running reload, with any result.
    package mutating func finished() -> FinishAction {
        switch state {
        case .running:
            state = .idle
            return .rest
        case .runningAndAgain(let number):
            last = number + 1
            state = .running(last)
            return .begin(last)
        case .stopping:
            state = .stopped
            return .stop
        case .idle, .stopped:
            preconditionFailure("a reload ended that never began")
        }
    }

    package enum StopAction: Hashable, Sendable {
        /// Nothing runs: stop now.
        case stop
        /// Make the reload with this number give up, and refuse the callers of the next one. ``finished()`` then
        /// returns `.stop`.
        case giveUp(UInt64)
        /// The host is already stopping.
        case doNothing
    }

    /// Handles a request to stop the host.
    package mutating func stop() -> StopAction {
        switch state {
        case .idle:
            state = .stopped
            return .stop
        case .running(let number), .runningAndAgain(let number):
            state = .stopping(number)
            return .giveUp(number)
        case .stopping, .stopped:
            return .doNothing
        }
    }

    /// Whether the running reload should undo its work instead of continuing.
    package var isStopping: Bool {
        switch state {
        case .stopping, .stopped: true
        case .idle, .running, .runningAndAgain: false
        }
    }
}
