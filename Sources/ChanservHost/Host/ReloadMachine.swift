/// Which reload answers which request for one: however many signals come during a reload, exactly one more follows.
///
/// A request that comes while a reload runs is answered by the *next* one, because the running one may have read the
/// file before it was changed.
package struct ReloadMachine: Sendable {
    package enum State: Hashable, Sendable {
        case idle
        /// The reload with this number runs.
        case running(UInt64)
        /// It runs, and the next one was asked for.
        case runningAndAgain(UInt64)
        /// The host stops as soon as the reload with this number has ended; nothing new begins.
        case stopping(UInt64)
        case stopped
    }

    package private(set) var state: State = .idle
    private var last: UInt64 = 0

    package init() {}

    package enum RequestAction: Hashable, Sendable {
        /// Run the reload with this number now; it answers the request.
        case begin(UInt64)
        /// The reload with this number will answer the request; it begins by itself.
        case awaitReload(UInt64)
        /// The host is stopping: there will be no further reload.
        case refuse
    }

    /// Somebody wants the configuration to be read again.
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
        /// Go on with the shutdown that waited for this.
        case stop
    }

    /// The running reload has ended, well or not.
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
        /// Make the reload with this number give up, and refuse the one that was to follow it; ``finished()`` then
        /// says `.stop`.
        case giveUp(UInt64)
        /// It was asked before.
        case doNothing
    }

    /// The host is to end.
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

    /// Whether the running reload should undo what it did instead of going on.
    package var isStopping: Bool {
        switch state {
        case .stopping, .stopped: true
        case .idle, .running, .runningAndAgain: false
        }
    }
}
