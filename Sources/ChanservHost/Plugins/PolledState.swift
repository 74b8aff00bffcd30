/// The life of one polled object, a call or a source, as far as the order of the functions called on it goes.
///
/// Pure: the shell calls the plugin and tells what came of it. The rules it keeps (chanserv_plugin.h):
/// - polls never overlap each other, and none comes after END, an error, a cancellation or a request to close;
/// - a wake that comes during a poll is not lost: when that poll answers PENDING the object is ready at once;
/// - cancel is called at most once, may overlap a poll, and never overlaps close;
/// - close is called exactly once, when neither a poll nor a cancel runs.
package struct PolledState: Sendable, Hashable {
    /// Where the polls stand.
    package enum Phase: Sendable, Hashable {
        /// May be polled.
        case idle
        /// A poll runs. `isWoken`: a wake came since it began.
        case polling(isWoken: Bool)
        /// The last poll answered PENDING and no wake has come since.
        case pending
        /// The last poll answered END or an error.
        case finished
        /// Close was called, or is about to be by whom was told so.
        case closed
    }

    /// Where the cancellation stands.
    package enum Cancellation: Sendable, Hashable {
        case none
        /// The plugin's cancel is being called or about to be.
        case running
        case done
    }

    package private(set) var phase: Phase = .idle
    package private(set) var cancellation: Cancellation = .none
    /// The owner needs the object no more.
    package private(set) var isCloseRequested = false

    package init() {}

    /// What a caller that wants to poll has to do.
    package enum PollAction: Sendable, Hashable {
        /// Poll, then tell ``pollReturned(_:)``.
        case poll
        /// Ask again after a wake.
        case wait
        /// There is no more.
        case reportEnd
        /// It was cancelled or closed.
        case reportStop
    }

    package mutating func beginPoll() -> PollAction {
        guard cancellation == .none, !isCloseRequested else { return .reportStop }
        switch phase {
        case .idle:
            phase = .polling(isWoken: false)
            return .poll
        case .pending:
            return .wait
        case .finished:
            return .reportEnd
        case .closed:
            return .reportStop
        case .polling:
            preconditionFailure("two polls of one object at the same time")
        }
    }

    /// What a poll came to.
    package enum Outcome: Sendable, Hashable {
        case ready
        case pending
        /// END or an error.
        case finished
    }

    /// Whether it is time to close.
    package enum CloseAction: Sendable, Hashable {
        case close
        case doNothing
    }

    package mutating func pollReturned(_ outcome: Outcome) -> CloseAction {
        guard case .polling(let isWoken) = phase else { preconditionFailure("a poll returned that did not run") }
        switch outcome {
        case .ready: phase = .idle
        case .pending: phase = isWoken ? .idle : .pending
        case .finished: phase = .finished
        }
        return closeIfPossible()
    }

    /// Whether the object needs another turn.
    package enum WakeAction: Sendable, Hashable {
        case resume
        case doNothing
    }

    package mutating func receivedWake() -> WakeAction {
        switch phase {
        case .polling:
            phase = .polling(isWoken: true)
            return .doNothing
        case .pending:
            phase = .idle
            return .resume
        case .idle, .finished, .closed:
            return .doNothing
        }
    }

    /// What a cancellation asks for.
    package enum CancelAction: Sendable, Hashable {
        /// Call the plugin's cancel, then tell ``cancelReturned()``.
        case callCancel
        case doNothing
    }

    /// The object will not be polled any more. A poll that runs is asked to return, also if the close was requested before: the
    /// close waits for it.
    package mutating func receivedCancel() -> CancelAction {
        guard cancellation == .none else { return .doNothing }
        switch phase {
        case .idle, .polling, .pending:
            cancellation = .running
            return .callCancel
        case .finished, .closed:
            return .doNothing
        }
    }

    package mutating func cancelReturned() -> CloseAction {
        precondition(cancellation == .running, "a cancel returned that did not run")
        cancellation = .done
        return closeIfPossible()
    }

    /// The owner needs the object no more. It may come again.
    package mutating func requestClose() -> CloseAction {
        isCloseRequested = true
        return closeIfPossible()
    }

    private mutating func closeIfPossible() -> CloseAction {
        guard isCloseRequested, cancellation != .running else { return .doNothing }
        switch phase {
        case .polling, .closed:
            return .doNothing
        case .idle, .pending, .finished:
            phase = .closed
            return .close
        }
    }
}
