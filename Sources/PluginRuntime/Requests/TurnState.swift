/// State machine of the turns of one object. At most one turn runs at a time. An event during a turn causes another
/// turn.
package struct TurnState: Sendable, Hashable {
    package enum Phase: Sendable, Hashable {
        case idle
        /// A turn is requested and has not begun.
        case scheduled
        /// `again`: an event arrived after the turn began.
        case running(again: Bool)
    }

    package private(set) var phase = Phase.idle

    package init() {}

    package enum Request: Sendable, Hashable {
        /// The caller must start a turn.
        case schedule
        /// A turn is already scheduled, or runs again after the current one.
        case doNothing
    }

    /// Requests a turn because of an event.
    package mutating func request() -> Request {
        switch phase {
        case .idle:
            phase = .scheduled
            return .schedule
        case .scheduled: return .doNothing
        case .running:
            phase = .running(again: true)
            return .doNothing
        }
    }

    /// Begins the requested turn.
    package mutating func begin() {
        precondition(phase == .scheduled, "a turn began that was not asked for")
        phase = .running(again: false)
    }

    /// Ends the turn.
    ///
    /// - Parameter wantsMore: whether the turn left work undone.
    /// - Returns: whether the caller must start another turn.
    package mutating func end(wantsMore: Bool) -> Request {
        guard case .running(let again) = phase else { preconditionFailure("a turn ended that did not run") }
        phase = again || wantsMore ? .scheduled : .idle
        return phase == .scheduled ? .schedule : .doNothing
    }
}
