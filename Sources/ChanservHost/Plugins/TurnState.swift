/// State machine of the turns of one object: at most one turn runs at a time, and an event during a turn causes another one.
package struct TurnState: Sendable, Hashable {
    package enum Phase: Sendable, Hashable {
        case idle
        /// A turn was asked for and has not begun.
        case scheduled
        /// `again`: an event came since it began.
        case running(again: Bool)
    }

    package private(set) var phase = Phase.idle

    package init() {}

    package enum Request: Sendable, Hashable {
        /// The caller sees to it that a turn begins.
        case schedule
        /// A turn comes in any case.
        case doNothing
    }

    /// Something happened.
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

    /// A turn that was asked for begins.
    package mutating func begin() {
        precondition(phase == .scheduled, "a turn began that was not asked for")
        phase = .running(again: false)
    }

    /// The turn is over.
    ///
    /// - Parameter wantsMore: whether it has not done all that it could.
    /// - Returns: whether the caller sees to it that another one begins.
    package mutating func end(wantsMore: Bool) -> Request {
        guard case .running(let again) = phase else { preconditionFailure("a turn ended that did not run") }
        phase = again || wantsMore ? .scheduled : .idle
        return phase == .scheduled ? .schedule : .doNothing
    }
}
