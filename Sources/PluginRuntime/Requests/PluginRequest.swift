internal import CChanservPlugin
internal import Chanserv
internal import DequeModule
internal import NIOCore
internal import Synchronization

/// One request that a plugin serves. Polls the plugin for sources, adds them to the request, and closes the call at the
/// end.
///
/// It has no task. Its turns run on the event loop if the plugin allows that, and on plugin threads otherwise.
final class PluginRequest: RequestWork, PolledOwner {
    fileprivate struct State: ~Copyable {
        var object: PolledObject?
        /// Sources that a poll returned and that are not added to the request yet. Bounded by the maximum of one poll.
        var ready = Deque<(header: SourceHeader, source: PluginSource)>()
        /// Set when the plugin has no more sources or has failed.
        var end: Result<Void, PluginError>?
        /// Number of sources that are not closed.
        var openSources = 0
        /// Whether the call is no longer polled. close_call follows when all sources are closed.
        var isPollingOver = false
        /// Whether the request was cancelled. The host then closes the sources that are not added yet.
        var isCancelled = false
    }

    let scope: RequestScope
    let context: PluginContext
    let isInline: Bool
    private let state = Mutex(State())
    /// Consecutive polls without a result. Used only in turns, which do not overlap.
    private nonisolated(unsafe) var idlePolls = IdlePolls()

    init(_ scope: RequestScope, _ context: PluginContext, isInline: Bool) {
        self.scope = scope
        self.context = context
        self.isInline = isInline
    }

    /// Opens the request in the plugin and runs the first turn.
    ///
    /// Runs on a thread that may call the plugin's functions.
    func open(_ request: Request, of instance: PluginPointer) {
        var pointer: OpaquePointer?
        let (status, message) = request.withPluginRequest { plain in
            context.callFailing("open") { descriptor, error in
                descriptor.open(instance.raw, plain, &pointer, error)
            }
        }
        guard status == CHANSERV_READY, let pointer else {
            let error =
                status == CHANSERV_READY
                ? PluginError(.internal, "open returned CHANSERV_READY without a call")
                : PluginError(status: status, function: "open", message: message)
            scope.finish(error)
            return scope.handlerFinished()
        }
        context.counters.callOpened()
        let object = PolledObject(.call, PluginPointer(raw: pointer), context: context, isInline: isInline)
        state.withLock { $0.object = object }
        object.register(self)
        guard scope.attach(self) else { return object.stop() }
        object.turn()
    }

    // MARK: - RequestWork

    func resume() {
        // Not in place on a plugin thread: the thread may be in the middle of another turn, for example that of a
        // source.
        state.withLock { $0.object }?.turn(inPlace: scope.isOnNetworkThread)
    }

    func cancel() {
        let (object, ready) = state.withLock { state in
            var ready = Deque<(header: SourceHeader, source: PluginSource)>()
            swap(&ready, &state.ready)
            state.isCancelled = true
            return (state.object, ready)
        }
        for (_, source) in ready { source.cancel() }
        object?.stop()
    }

    // MARK: - Turns

    func takeTurn() -> Bool {
        guard let object = state.withLock({ $0.object }) else { return false }
        let begin = monotonicNanoseconds()
        while true {
            guard addReady(since: begin) else { return false }
            if let end = state.withLock({ $0.end }) {
                finish(end)
                return false
            }
            switch poll(object) {
            case .end: state.withLock { $0.end = .success(()) }
            case .failed(let error): state.withLock { $0.end = .failure(error) }
            case .wait: return false
            case .pending(let isWoken):
                guard addReady(since: begin), isWoken else { return false }
            case .stopped: return false
            case .ready:
                if state.withLock({ $0.ready.isEmpty }) {
                    context.counters.emptyPoll()
                    return idlePolls.next(object, function: "poll_sources", in: scope)
                }
                idlePolls = IdlePolls()
            }
            if monotonicNanoseconds() &- begin > PluginContext.turn { return true }
        }
    }

    /// Adds polled sources to the request and starts each of them.
    ///
    /// - Parameter begin: start of the turn on the monotonic clock, in nanoseconds.
    /// - Returns: whether the request takes more sources.
    private func addReady(since begin: UInt64) -> Bool {
        while let (header, source, isLast) = state.withLock({ $0.takeReady() }) {
            let added = scope.add(consume header) { output in
                source.setOutput(output)
                return source
            }
            switch added {
            case .added(let output):
                // Sources are polled in parallel. While this turn is short, the last source of a poll and all inline
                // sources run their first turn here, which saves a change of threads.
                let isLate = monotonicNanoseconds() &- begin > PluginContext.turn
                source.start(output, inPlace: !isLate && (isLast || isInline))
            case .grantExhausted(let header):
                // A cancellation in the meantime did not see this source.
                if !state.withLock({ $0.putBack(header, source) }) { source.cancel() }
                return false
            case .ended:
                source.cancel()
                cancel()
                return false
            }
        }
        return true
    }

    private func finish(_ end: Result<Void, PluginError>) {
        switch end {
        case .success: scope.finish(nil)
        case .failure(let error): scope.finish(error)
        }
        state.withLock { $0.object }?.close()
    }

    private func poll(_ object: PolledObject) -> PolledObject.Step {
        var sink = SourceSink(request: self)
        let step = object.poll { pointer, handle in
            context.counters.sourcesPolled()
            return sink.withPointer(wakeHandle: handle) { sinkPointer in
                let (status, message) = context.callFailing("poll_sources") { descriptor, error in
                    descriptor.pollSources(pointer, sinkPointer, error)
                }
                return PluginAnswer(poll: status, function: "poll_sources", message: message)
            }
        }
        if case .stopped = step {
            for (_, source) in sink.sources { source.cancel() }
        } else if !sink.sources.isEmpty {
            let sources = sink.sources
            let isWanted = state.withLock { state in
                guard !state.isCancelled else { return false }
                if state.ready.isEmpty { state.ready = sources } else { state.ready.append(contentsOf: sources) }
                return true
            }
            if !isWanted { for (_, source) in sources { source.cancel() } }
        }
        return step
    }

    // MARK: - Closing

    /// Registers a source that a sink took.
    func add(_ pointer: PluginPointer) -> PluginSource {
        state.withLock { $0.openSources += 1 }
        context.counters.sourceOpened()
        return PluginSource(pointer, of: self)
    }

    /// Records that close_source has returned.
    func sourceClosed() {
        let closes = state.withLock { state in
            state.openSources -= 1
            return state.takesClose()
        }
        if closes { close() }
    }

    /// Records that the call is no longer polled and that no cancel runs.
    func closed() {
        let closes = state.withLock { state in
            state.isPollingOver = true
            return state.takesClose()
        }
        if closes { close() }
    }

    private func close() {
        guard let object = state.withLock({ $0.object.take() }) else { return }
        object.callClose(in: scope) { [self] in scope.handlerFinished() }
    }
}

extension PluginRequest.State {
    /// Removes the next source to be added. `isLast`: no other source is ready.
    fileprivate mutating func takeReady() -> (header: SourceHeader, source: PluginSource, isLast: Bool)? {
        ready.popFirst().map { ($0.header, $0.source, ready.isEmpty) }
    }

    /// Puts back a source that the request did not take yet.
    ///
    /// - Returns: whether the source is added later. `false` after a cancellation.
    fileprivate mutating func putBack(_ header: SourceHeader, _ source: PluginSource) -> Bool {
        if !isCancelled { ready.prepend((header, source)) }
        return !isCancelled
    }

    /// Whether close_call must be called now: once, after close_source of every source (chanserv_plugin.h, close_call).
    fileprivate func takesClose() -> Bool { isPollingOver && openSources == 0 }
}

/// Backoff for a plugin that repeatedly answers READY without adding anything. It yields at first and then delays
/// further polls, so that such a plugin cannot keep a thread busy.
struct IdlePolls: Sendable {
    private var count = 0

    /// Records a poll without a result.
    ///
    /// - Parameters:
    ///   - function: name of the function, for the log.
    /// - Returns: whether the caller polls again soon. If not, a turn is scheduled after a delay.
    mutating func next(_ object: PolledObject, function: StaticString, in scope: RequestScope) -> Bool {
        count += 1
        if count <= 16 { return true }
        if count == 17 {
            object.context.logger.warning(
                """
                plugin \(object.context.name): \(function) repeatedly answers CHANSERV_READY without adding anything; \
                answer CHANSERV_PENDING and call wake when there is something to add
                """)
        }
        // The delay is 1, 2, 4 … 64 ms.
        scope.after(.milliseconds(1 << min(count - 17, 6))) { object.turn() }
        return false
    }
}
