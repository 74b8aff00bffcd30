/// State machine that decides when a folder that changes is read: after it has been quiet for `settle`, and at the
/// latest `maxSettle` after the first change.
package struct SettleMachine: Sendable {
    package enum Action: Hashable, Sendable {
        /// Call ``timerFired(at:)`` at this time. Replaces an earlier timer.
        case wait(until: ContinuousClock.Instant)
        /// Read the folder now.
        case read
        /// A timer that is no longer needed has fired.
        case doNothing
    }

    private enum State: Sendable {
        case quiet
        case settling(first: ContinuousClock.Instant, last: ContinuousClock.Instant)
    }

    private let settle: Duration
    private let maxSettle: Duration
    private var state: State = .quiet

    /// - Parameters:
    ///   - settle: the time without a change before the folder is read.
    ///   - maxSettle: the maximum time from the first change until the folder is read.
    package init(settle: Duration, maxSettle: Duration) {
        self.settle = settle
        self.maxSettle = maxSettle
    }

    /// Records a change of the folder.
    package mutating func changed(at now: ContinuousClock.Instant) -> Action {
        switch state {
        case .quiet: state = .settling(first: now, last: now)
        case .settling(let first, _): state = .settling(first: first, last: now)
        }
        return wait(at: now)
    }

    /// Records a change that another one is likely to follow, such as the creation of a file that is then written. Alone
    /// it counts after `maxSettle`.
    package mutating func mayHaveChanged(at now: ContinuousClock.Instant) -> Action {
        switch state {
        case .quiet:
            state = .settling(first: now, last: now + maxSettle)
            return wait(at: now)
        case .settling: return .doNothing
        }
    }

    /// Handles the end of a timer.
    package mutating func timerFired(at now: ContinuousClock.Instant) -> Action {
        wait(at: now)
    }

    private mutating func wait(at now: ContinuousClock.Instant) -> Action {
        guard case .settling(let first, let last) = state else { return .doNothing }
        let end = min(last + settle, first + maxSettle)
        if now < end { return .wait(until: end) }
        state = .quiet
        return .read
    }
}
