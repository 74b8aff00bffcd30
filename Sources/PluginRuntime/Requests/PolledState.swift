/// State machine of one polled object, a call or a source. It decides the order of the functions that the host calls on
/// it.
///
/// The shell calls the plugin and reports the results. The rules (chanserv_plugin.h):
/// - Polls of an object never overlap. None follows END, an error, a cancellation or a close request.
/// - A wake during a poll is not lost: if that poll answers PENDING, the object is ready at once.
/// - Cancel is called at most once. It may overlap a poll and never overlaps close.
/// - Close is called exactly once, when neither a poll nor a cancel is running.
package struct PolledState: Sendable, Hashable {
    /// Phase of the polls.
    package enum Phase: Sendable, Hashable {
        /// May be polled.
        case idle
        /// A poll is running. `isWoken`: a wake arrived after it began.
        case polling(isWoken: Bool)
        /// The last poll answered PENDING, and no wake has arrived since.
        case pending
        /// The last poll answered END or an error.
        case finished
        /// Close was called, or the caller that received ``CloseAction/close`` is about to call it.
        case closed
    }

    /// Phase of the cancellation.
    package enum Cancellation: Sendable, Hashable {
        case none
        /// The plugin's cancel is running or about to be called.
        case running
        case done
    }

    package private(set) var phase: Phase = .idle
    package private(set) var cancellation: Cancellation = .none
    /// Whether the owner no longer needs the object.
    package private(set) var isCloseRequested = false

    package init() {}

    /// Action of a caller that wants to poll.
    package enum PollAction: Sendable, Hashable {
        /// Poll the plugin, then call ``pollReturned(_:)``.
        case poll
        /// Do not poll before the next wake.
        case wait
        /// The object has ended.
        case reportEnd
        /// The object was cancelled or closed.
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

    /// Result of a poll.
    package enum Outcome: Sendable, Hashable {
        case ready
        case pending
        /// END or an error.
        case finished
    }

    /// Whether the caller must close the object now.
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

    /// Action that a cancellation requires.
    package enum CancelAction: Sendable, Hashable {
        /// Call the plugin's cancel, then ``cancelReturned()``.
        case callCancel
        case doNothing
    }

    /// Stops polling the object. A running poll is asked to return, even after a close request, because the close waits
    /// for it.
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

    /// Records that the owner no longer needs the object. Repeated calls are allowed.
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
