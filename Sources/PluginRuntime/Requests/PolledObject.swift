internal import Chanserv
internal import NIOConcurrencyHelpers
internal import Synchronization

/// Owner of a polled object. Runs its turns and learns when it may be closed.
protocol PolledOwner: AnyObject, Sendable {
    /// Request whose event loop may run the object's turns in addition to plugin threads.
    var scope: RequestScope { get }
    /// Does the pending work, for one turn at most. Runs on a thread that may call the plugin's functions.
    ///
    /// - Returns: whether work is left.
    func takeTurn() -> Bool
    /// Called when the object is no longer polled and no cancel runs. The plugin's close function may then be called.
    func closed()
}

/// Call or source of a plugin: its ``PolledState``, its turns, and the choice of the thread that runs them.
final class PolledObject: Sendable {
    enum Kind: Sendable { case call, source }

    private struct State: ~Copyable {
        var polled = PolledState()
        var turns = TurnState()
        /// Set until the close, which breaks the reference cycle with the owner.
        var owner: (any PolledOwner)?
    }

    let context: PluginContext
    /// Whether turns may run on the event loop.
    let isInline: Bool
    private let kind: Kind
    private let pointer: PluginPointer
    private let state: Mutex<State>
    /// Handle for the sink. Constant after ``register(_:)``, which precedes the first poll.
    private nonisolated(unsafe) var wakeHandle: UInt64 = 0

    init(_ kind: Kind, _ pointer: PluginPointer, context: PluginContext, isInline: Bool) {
        self.kind = kind
        self.pointer = pointer
        self.context = context
        self.isInline = isInline
        state = Mutex(State())
    }

    /// Makes the object known to wakes. Called once, before the first turn.
    func register(_ owner: any PolledOwner) {
        state.withLock { $0.owner = owner }
        wakeHandle = WakeTable.insert(self)
    }

    // MARK: - Turns

    /// Requests a turn because of an event. It runs at once if the current thread is suitable.
    ///
    /// - Parameter inPlace: `false` if the caller may be inside a plugin function.
    func turn(inPlace: Bool = true) {
        let (request, owner) = state.withLock { ($0.turns.request(), $0.owner) }
        guard request == .schedule, let owner else { return }
        if inPlace, context.executor.isCurrent, !context.descriptor.isBlocking {
            run(owner)
        } else if inPlace, isInline, owner.scope.isOnNetworkThread {
            runInline(owner)
        } else {
            schedule(owner)
        }
    }

    /// Schedules a turn on the thread where it belongs.
    private func schedule(_ owner: any PolledOwner) {
        if isInline, context.mayRunInline {
            owner.scope.runSoon { [self] in runInline(owner) }
        } else {
            context.executor.submit { [self] in run(owner) }
        }
    }

    /// Runs a turn on the event loop if that is allowed now, and on a plugin thread otherwise.
    private func runInline(_ owner: any PolledOwner) {
        guard context.mayRunInline, context.executor.tryRunInPlace({ run(owner, isInline: true) }) else {
            return context.executor.submit { [self] in run(owner) }
        }
    }

    private func run(_ owner: any PolledOwner, isInline: Bool = false) {
        state.withLock { $0.turns.begin() }
        let wantsMore = owner.takeTurn()
        if state.withLock({ $0.turns.end(wantsMore: wantsMore) }) == .schedule { schedule(owner) }
    }

    // MARK: - Polling

    /// Result of a poll, or the reason for not polling.
    enum Step: Sendable {
        case ready
        /// `isWoken`: a wake arrived after the poll began, so another poll may have a result at once.
        case pending(isWoken: Bool)
        case end
        case failed(PluginError)
        /// The last poll answered PENDING, and no wake has arrived.
        case wait
        /// The host ended the object.
        case stopped
    }

    /// Polls once if the state allows it. Called within a turn.
    ///
    /// - Parameter poll: calls the plugin with the pointer and with the handle for the sink.
    func poll(_ poll: (_ pointer: OpaquePointer, _ wakeHandle: UInt64) -> PluginAnswer) -> Step {
        switch state.withLock({ $0.polled.beginPoll() }) {
        case .wait: return .wait
        case .reportEnd: return .end
        case .reportStop: return .stopped
        case .poll: break
        }
        let answer = poll(pointer.raw, wakeHandle)
        let outcome: PolledState.Outcome =
            switch answer {
            case .ready: .ready
            case .pending: .pending
            case .end, .failed: .finished
            }
        let (closeAction, isStopped, isWoken) = state.withLock { state in
            (state.polled.pollReturned(outcome), state.polled.isStopped, state.polled.phase == .idle)
        }
        perform(closeAction)
        if isStopped { return .stopped }
        return switch answer {
        case .ready: .ready
        case .pending: .pending(isWoken: isWoken)
        case .end: .end
        case .failed(let error): .failed(error)
        }
    }

    // MARK: - From any thread

    /// Handles a call of `host->wake`.
    func receivedWake() {
        let action = state.withLock { $0.polled.receivedWake() }
        switch action {
        case .resume: turn(inPlace: false)
        case .doNothing: break
        }
    }

    /// Closes the object as soon as that is allowed. Repeated calls have no effect.
    func close() {
        perform(state.withLock { $0.polled.requestClose() })
    }

    /// Ends the object on behalf of the host. Asks the plugin to let a running poll return, and closes the object as
    /// soon as that is allowed.
    func stop() {
        let (cancelAction, closeAction) = state.withLock { state in
            (state.polled.receivedCancel(), state.polled.requestClose())
        }
        switch cancelAction {
        case .callCancel: callCancel()
        case .doNothing: break
        }
        perform(closeAction)
    }

    // MARK: - Closing

    private func callCancel() {
        // Never in place: this may be an event loop, or a thread inside a poll.
        context.executor.submitUrgent { [self] in
            context.callUrgently(kind == .source ? "cancel_source" : "cancel_call") { descriptor in
                kind == .source ? descriptor.cancelSource(pointer.raw) : descriptor.cancelCall(pointer.raw)
            }
            perform(state.withLock { $0.polled.cancelReturned() })
        }
    }

    private func perform(_ action: PolledState.CloseAction) {
        switch action {
        case .doNothing: return
        case .close: break
        }
        let owner = state.withLock { $0.owner.take() }
        WakeTable.remove(wakeHandle)
        guard let owner else { preconditionFailure("closed twice, or never registered") }
        owner.closed()
    }

    /// Calls the plugin's close function and then `done`, on the current thread if it is suitable. Not during a poll.
    func callClose(in scope: RequestScope, then done: @escaping @Sendable () -> Void) {
        let executor = context.executor
        if context.descriptor.isBlocking { return executor.submit { [self] in close(done) } }
        if executor.isCurrent { return close(done) }
        if isInline, scope.isOnNetworkThread, context.mayRunInline, executor.tryRunInPlace({ close(done) }) { return }
        executor.submitUnhurried { [self] in close(done) }
    }

    private func close(_ done: () -> Void) {
        switch kind {
        case .call: context.call("close_call") { $0.closeCall(pointer.raw) }
        case .source: context.call("close_source") { $0.closeSource(pointer.raw) }
        }
        done()
    }
}

extension PolledState {
    /// Whether the results of polls no longer matter.
    var isStopped: Bool { cancellation != .none || isCloseRequested }
}
