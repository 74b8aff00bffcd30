internal import Chanserv
internal import NIOConcurrencyHelpers
internal import Synchronization

/// Takes the turns of a polled object, and is told when it is closed.
protocol PolledOwner: AnyObject, Sendable {
    /// Where the object's turns may run besides the plugin's threads.
    var scope: RequestScope { get }
    /// Does what there is to do, for a turn at most. Runs where the plugin's functions may be called.
    ///
    /// - Returns: whether there is more to do.
    func takeTurn() -> Bool
    /// The object is not polled any more, and no cancel runs: the plugin's close function may be called.
    func closed()
}

/// A call or a source of a plugin: its ``PolledState`` and its turns, and where they run.
final class PolledObject: Sendable {
    enum Kind: Sendable { case call, source }

    private struct State: ~Copyable {
        var polled = PolledState()
        var turns = TurnState()
        /// Until the close, so that the two do not keep each other alive after it.
        var owner: (any PolledOwner)?
    }

    let context: PluginContext
    /// Whether turns may run on the network's thread.
    let isInline: Bool
    private let kind: Kind
    private let pointer: PluginPointer
    private let state: Mutex<State>
    /// For the sink; constant once ``register(_:)`` has returned, which comes before the first poll.
    private nonisolated(unsafe) var wakeHandle: UInt64 = 0

    init(_ kind: Kind, _ pointer: PluginPointer, context: PluginContext, isInline: Bool) {
        self.kind = kind
        self.pointer = pointer
        self.context = context
        self.isInline = isInline
        state = Mutex(State())
    }

    /// Makes the object known to wakes. Once, before the first turn.
    func register(_ owner: any PolledOwner) {
        state.withLock { $0.owner = owner }
        wakeHandle = WakeTable.insert(self)
    }

    // MARK: - Turns

    /// Something happened: a turn looks at it, here and now if this is the right thread.
    ///
    /// - Parameter inPlace: `false` if the caller may be in the middle of a plugin's function.
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

    /// Begins a turn soon, on the thread where it belongs.
    private func schedule(_ owner: any PolledOwner) {
        if isInline, context.mayRunInline {
            owner.scope.runSoon { [self] in runInline(owner) }
        } else {
            context.executor.submit { [self] in run(owner) }
        }
    }

    /// On the network's thread.
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

    /// What to do instead of polling, or the outcome of a poll.
    enum Step: Sendable {
        case ready
        /// `isWoken`: a wake has come since the poll began, so that another poll may bring something at once.
        case pending(isWoken: Bool)
        case end
        case failed(PluginError)
        /// The last poll answered PENDING, and no wake has come.
        case wait
        /// The host ended the object.
        case stopped
    }

    /// Polls once if it may be. In a turn.
    ///
    /// - Parameter poll: calls the plugin with the pointer and the handle for the sink.
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

    /// `host->wake` was called.
    func receivedWake() {
        let action = state.withLock { $0.polled.receivedWake() }
        switch action {
        case .resume: turn(inPlace: false)
        case .doNothing: break
        }
    }

    /// The object is not needed any more. Repeating it does nothing.
    func close() {
        perform(state.withLock { $0.polled.requestClose() })
    }

    /// Ends the object from the host's side: the plugin is asked to let a poll that runs return, and the object is closed as
    /// soon as it may be.
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
        // Never in place: this may be an event loop, or a thread in the middle of a poll.
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

    /// Calls the plugin's close function, here and now if this is the right thread, and `then` after it. Not during a poll.
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
    /// Whether the outcome of polls does not matter any more.
    var isStopped: Bool { cancellation != .none || isCloseRequested }
}
