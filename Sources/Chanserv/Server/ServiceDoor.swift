/// Whether the owner of a service wants its name to be there. What the error mass says comes on top of it.
///
/// Withdrawing a name is not one moment: clients may have dialled it before, and wait in the listener. These are served; only
/// then is the door closed.
package struct ServiceDoor: Sendable, Hashable {
    package enum State: Sendable, Hashable {
        /// The name is wanted.
        case open
        /// The name is withdrawn; those who dialled it before are still let in.
        case closing
        /// As `closing`, but the name is wanted again: it is bound anew when the old listener is empty.
        case reopening
        /// The name is withdrawn, and nobody is left at the door.
        case closed
        /// The name is gone for good.
        case stopped
    }

    /// What an event makes the service do.
    package enum Action: Sendable, Hashable {
        case doNothing
        /// Withdraw the name, and go on to take what the listener has.
        case finishListener
        /// Drop the listener, and whoever waits in it.
        case closeListener
        /// Bind the name.
        case bind
    }

    package private(set) var state = State.open

    package init() {}

    /// The owner wants the name to go, until further notice.
    ///
    /// - Parameter isBound: whether there is a listener; there is none while the error mass has the name withdrawn.
    package mutating func withdraw(isBound: Bool) -> Action {
        switch state {
        case .open where isBound:
            state = .closing
            return .finishListener
        case .open:
            state = .closed
            return .doNothing
        case .reopening:
            state = .closing
            return .doNothing
        case .closing, .closed, .stopped:
            return .doNothing
        }
    }

    /// The owner wants the name back.
    package mutating func restore() -> Action {
        switch state {
        case .closing:
            state = .reopening
            return .doNothing
        case .closed:
            state = .open
            return .bind
        case .open, .reopening, .stopped:
            return .doNothing
        }
    }

    /// Nobody is left in the listener, or it was closed.
    package mutating func emptied() -> Action {
        switch state {
        case .closing:
            state = .closed
            return .doNothing
        case .reopening:
            state = .open
            return .bind
        case .open, .closed, .stopped:
            return .doNothing
        }
    }

    /// The name goes for good.
    package mutating func stop() -> Action {
        switch state {
        case .open, .closing, .reopening:
            state = .stopped
            return .closeListener
        case .closed:
            state = .stopped
            return .doNothing
        case .stopped:
            return .doNothing
        }
    }

    /// Whether the listener takes no new dials, and is to be emptied.
    package var isFinishing: Bool { state == .closing || state == .reopening }
}
