internal import NIOConcurrencyHelpers

/// A call or a source of a plugin: the shell around its ``PolledState``.
final class PolledObject: Sendable {
    /// What the pointer is, and whom to tell when it is closed.
    enum Kind: Sendable {
        case call(PluginCall)
        case source(of: PluginCall)
    }

    private struct State {
        var polled = PolledState()
        /// Who waits for a wake. Only where `polled` is pending.
        var waiter: UnsafeContinuation<Void, Never>?
        /// What polls throw after the host ended the object.
        var termination: PluginError?
        /// For the sink; 0 before ``register(as:)`` and after the close.
        var wakeHandle: UInt64 = 0
        /// Until the close, so that the two do not keep each other alive after it.
        var kind: Kind?
    }

    let context: PluginContext
    private let pointer: PluginPointer
    private let state = NIOLockedValueBox(State())

    init(_ pointer: PluginPointer, context: PluginContext) {
        self.pointer = pointer
        self.context = context
    }

    /// Makes the object known to wakes. Once, before the first poll.
    func register(as kind: Kind) {
        let handle = WakeTable.insert(self)
        state.withLockedValue { state in
            state.kind = kind
            state.wakeHandle = handle
        }
    }

    // MARK: Polling

    /// What to do instead of polling, or the outcome of a poll.
    enum Step: Sendable {
        case ready
        case pending
        case end
        case failed(PluginError)
        case wait
        /// Cancelled or ended by the host.
        case stopped
    }

    /// Polls once if it may be. Must run on the plugin's executor.
    ///
    /// - Parameter poll: calls the plugin with the pointer and the handle for the sink.
    func poll(_ poll: (_ pointer: OpaquePointer, _ wakeHandle: UInt64) -> PluginAnswer) -> Step {
        let (action, handle) = state.withLockedValue { ($0.polled.beginPoll(), $0.wakeHandle) }
        switch action {
        case .wait: return .wait
        case .reportEnd: return .end
        case .reportStop: return .stopped
        case .poll: break
        }
        let answer = poll(pointer.raw, handle)
        let outcome: PolledState.Outcome =
            switch answer {
            case .ready: .ready
            case .pending: .pending
            case .end, .failed: .finished
            }
        let (closeAction, isStopped) = state.withLockedValue { state in
            (state.polled.pollReturned(outcome), state.polled.isStopped)
        }
        perform(closeAction)
        if isStopped { return .stopped }
        return switch answer {
        case .ready: .ready
        case .pending: .pending
        case .end: .end
        case .failed(let error): .failed(error)
        }
    }

    /// Waits for a wake, a cancellation or the host's end of the object, whichever comes first; not at all where one
    /// has come already.
    func waitForWake() async {
        await withUnsafeContinuation { continuation in
            let resumes = state.withLockedValue { state in
                precondition(state.waiter == nil, "two waits for one object")
                if state.polled.beginWaiting() == .doNotWait { return true }
                state.waiter = continuation
                return false
            }
            if resumes { continuation.resume() }
        }
    }

    /// What to throw after ``Step/stopped``.
    var stopReason: any Error {
        state.withLockedValue { $0.termination } ?? CancellationError()
    }

    // MARK: From any thread

    /// `host->wake` was called.
    func receivedWake() {
        let waiter: UnsafeContinuation<Void, Never>? = state.withLockedValue { state in
            guard state.polled.receivedWake() == .resume else { return nil }
            return state.waiter.take()
        }
        waiter?.resume()
    }

    /// The task that polls was cancelled.
    func cancel() {
        let (action, waiter) = state.withLockedValue { ($0.polled.receivedCancel(), $0.waiter.take()) }
        if action == .callCancel { callCancel() }
        waiter?.resume()
    }

    /// The owner needs the object no more. Repeating it does nothing.
    func close() {
        perform(state.withLockedValue { $0.polled.requestClose() })
    }

    /// Ends the object from the host's side: polls throw `error` from now on, and it is closed as soon as it may be,
    /// without waiting for its owner.
    func terminate(_ error: PluginError) {
        let (action, waiter) = state.withLockedValue { state in
            if state.termination == nil { state.termination = error }
            return (state.polled.terminate(), state.waiter.take())
        }
        switch action {
        case .callCancel: callCancel()
        case .close: perform(.close)
        case .doNothing: break
        }
        waiter?.resume()
    }

    // MARK: Inside

    private func callCancel() {
        // Never in place: this may be an event loop, or a thread in the middle of a poll.
        context.executor.submitUrgent { [self] in
            let isSource = state.withLockedValue { state in
                if case .source = state.kind { true } else { false }
            }
            context.callUrgently(isSource ? "cancel_source" : "cancel_call") { descriptor in
                isSource ? descriptor.cancelSource(pointer.raw) : descriptor.cancelCall(pointer.raw)
            }
            perform(state.withLockedValue { $0.polled.cancelReturned() })
        }
    }

    private func perform(_ action: PolledState.CloseAction) {
        guard action == .close else { return }
        let (kind, handle) = state.withLockedValue { state in
            defer { state.kind = nil }
            return (state.kind, state.wakeHandle)
        }
        WakeTable.remove(handle)
        switch kind {
        case .call(let call):
            call.pollingIsOver()
        case .source(let call):
            // Never in place: this may be in the middle of the poll that added the source.
            submitClose { [self] in
                context.call("close_source") { $0.closeSource(pointer.raw) }
                call.sourceClosed(self)
            }
        case nil:
            preconditionFailure("closed twice, or never registered")
        }
    }

    /// Calls close_call, when ``PluginCall`` says it is time.
    func closeCall(then done: @escaping @Sendable () -> Void) {
        submitClose { [self] in
            context.call("close_call") { $0.closeCall(pointer.raw) }
            done()
        }
    }

    private func submitClose(_ close: @escaping @Sendable () -> Void) {
        if context.descriptor.isBlocking {
            context.executor.submit(close)
        } else {
            context.executor.submitUnhurried(close)
        }
    }
}

extension PolledState {
    /// Whether nobody is interested in the outcome of polls any more.
    var isStopped: Bool { cancellation != .none || isCloseRequested }
}
