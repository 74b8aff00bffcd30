internal import CChanservPlugin
internal import Chanserv
internal import DequeModule
internal import NIOCore
internal import Synchronization

/// One request that a plugin serves: it polls the plugin for sources, adds them to the request, and closes the call when
/// everything is over.
///
/// It has no task. Its turns run on the network's thread if the plugin allows that, and on the plugin's threads otherwise.
final class PluginRequest: RequestWork, PolledOwner {
    fileprivate struct State: ~Copyable {
        var object: PolledObject?
        /// Sources that were polled and are not added to the request yet, at most what one poll gives.
        var ready = Deque<(header: SourceHeader, source: PluginSource)>()
        /// The plugin has no more sources, or failed.
        var end: Result<Void, PluginError>?
        /// Sources that are not closed.
        var openSources = 0
        /// close_call may be called when they are.
        var isPollingOver = false
        /// The request was cancelled: sources that were not added are closed.
        var isCancelled = false
    }

    let scope: RequestScope
    let context: PluginContext
    let isInline: Bool
    private let state = Mutex(State())
    /// Polls in a row that brought nothing. Used in turns only, which do not overlap.
    private nonisolated(unsafe) var idlePolls = IdlePolls()

    init(_ scope: RequestScope, _ context: PluginContext, isInline: Bool) {
        self.scope = scope
        self.context = context
        self.isInline = isInline
    }

    /// Opens the request in the plugin, and takes the first turn.
    ///
    /// Runs where the plugin's functions may be called.
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
                ? PluginError(.internal, "open made no call")
                : PluginError(status: status, function: "open", message: message)
            scope.finish(error)
            return scope.released()
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
        // Not on a plugin thread that happens to bring the news, e.g. in the middle of a source's turn.
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

    /// Adds the sources that were polled to the request, and begins each.
    ///
    /// - Parameter begin: when the turn began.
    /// - Returns: whether there is room for more.
    private func addReady(since begin: UInt64) -> Bool {
        while let (header, source, isLast) = state.withLock({ $0.takeReady() }) {
            let added = scope.add(consume header) { output in
                source.setOutput(output)
                return source
            }
            switch added {
            case .added(let output):
                // Sources are polled at the same time. The last one of a poll has its first turn here, which saves a change
                // of threads, and so have all that are called on the network's thread, as long as the turn is short.
                let isLate = monotonicNanoseconds() &- begin > PluginContext.turn
                source.start(output, inPlace: !isLate && (isLast || isInline))
            case .noRoom(let header):
                // A cancellation that came meanwhile has not seen this one.
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

    /// A sink took a source.
    func add(_ pointer: PluginPointer) -> PluginSource {
        state.withLock { $0.openSources += 1 }
        context.counters.sourceOpened()
        return PluginSource(pointer, of: self)
    }

    /// close_source has returned.
    func sourceClosed() {
        let closes = state.withLock { state in
            state.openSources -= 1
            return state.takesClose()
        }
        if closes { close() }
    }

    /// The call is not polled any more, and no cancel runs.
    func closed() {
        let closes = state.withLock { state in
            state.isPollingOver = true
            return state.takesClose()
        }
        if closes { close() }
    }

    private func close() {
        guard let object = state.withLock({ $0.object.take() }) else { return }
        object.callClose(in: scope) { [self] in scope.released() }
    }
}

extension PluginRequest.State {
    /// Takes out the next source to be added; `isLast`: there are no others.
    fileprivate mutating func takeReady() -> (header: SourceHeader, source: PluginSource, isLast: Bool)? {
        ready.popFirst().map { ($0.header, $0.source, ready.isEmpty) }
    }

    /// There was no room for a source.
    ///
    /// - Returns: whether it will be added later.
    fileprivate mutating func putBack(_ header: SourceHeader, _ source: PluginSource) -> Bool {
        if !isCancelled { ready.prepend((header, source)) }
        return !isCancelled
    }

    /// Whether close_call is to be called now: once, after close_source of each source (chanserv_plugin.h, close_call).
    fileprivate func takesClose() -> Bool { isPollingOver && openSources == 0 }
}

/// What to do about a plugin that answers READY with nothing again and again: give way, then wait a little, so that it
/// cannot keep a thread busy for nothing.
struct IdlePolls: Sendable {
    private var count = 0

    /// One more poll has brought nothing.
    ///
    /// - Parameters:
    ///   - function: its name, for the log.
    /// - Returns: whether to poll again soon; if not, a turn comes by itself later.
    mutating func next(_ object: PolledObject, function: StaticString, in scope: RequestScope) -> Bool {
        count += 1
        if count <= 16 { return true }
        if count == 17 {
            object.context.logger.warning(
                """
                plugin \(object.context.name): \(function) answers CHANSERV_READY without adding anything, again and \
                again; CHANSERV_PENDING and a wake would save the polls
                """)
        }
        // 1, 2, 4 … 64 ms.
        scope.after(.milliseconds(1 << min(count - 17, 6))) { object.turn() }
        return false
    }
}
