package import Chanserv
internal import DequeModule
internal import NIOConcurrencyHelpers

/// One request that a plugin serves: its poll state, its open sources, and when it may be closed.
final class PluginCall: Sendable {
    private struct State {
        var life = CallLife()
        var sources: [ObjectIdentifier: PolledObject] = [:]
        /// What sources that are added from now on are ended with at once.
        var termination: PluginError?
    }

    let object: PolledObject
    private let state = NIOLockedValueBox(State())
    private let onClose: @Sendable (PluginCall) -> Void

    /// - Parameter onClose: called once, when close_call has returned.
    init(_ pointer: PluginPointer, context: PluginContext, onClose: @escaping @Sendable (PluginCall) -> Void) {
        object = PolledObject(pointer, context: context)
        self.onClose = onClose
        object.register(as: .call(self))
        context.counters.callOpened()
    }

    /// A sink took a source.
    func add(_ pointer: PluginPointer) -> PolledObject {
        let source = PolledObject(pointer, context: object.context)
        source.register(as: .source(of: self))
        object.context.counters.sourceOpened()
        let termination = state.withLockedValue { state in
            state.life.sourceAdded()
            state.sources[ObjectIdentifier(source)] = source
            return state.termination
        }
        if let termination { source.terminate(termination) }
        return source
    }

    /// close_source has returned.
    func sourceClosed(_ source: PolledObject) {
        object.context.counters.sourceClosed()
        let closes = state.withLockedValue { state in
            state.sources[ObjectIdentifier(source)] = nil
            return state.life.sourceClosed()
        }
        if closes { close() }
    }

    /// The call's own polls are over and no cancel runs.
    func pollingIsOver() {
        if state.withLockedValue({ $0.life.pollingIsOver() }) { close() }
    }

    /// Ends the call and all its sources from the host's side.
    func terminate(_ error: PluginError) {
        let sources = state.withLockedValue { state in
            if state.termination == nil { state.termination = error }
            return Array(state.sources.values)
        }
        object.terminate(error)
        for source in sources { source.terminate(error) }
    }

    private func close() {
        object.closeCall { [self] in
            object.context.counters.callClosed()
            onClose(self)
        }
    }
}

/// The sources of one request, pulled from the plugin. It can be iterated once; dropping it, or its iterator, ends the
/// call and closes the sources that nobody took.
package struct PluginSources: AsyncSequence, Sendable {
    package typealias Element = Source

    private let owner: Owner

    init(_ call: PluginCall) {
        owner = Owner(call)
    }

    package func makeAsyncIterator() -> Iterator { Iterator(owner: owner) }

    /// Closes the call when nobody can ask for sources any more.
    final class Owner: Sendable {
        let call: PluginCall

        init(_ call: PluginCall) { self.call = call }

        deinit { call.object.close() }
    }

    package struct Iterator: AsyncIteratorProtocol {
        private let owner: Owner
        /// At most what one poll added.
        private var sources: Deque<Source> = []
        private var end: Result<Void, any Error>?

        fileprivate init(owner: Owner) { self.owner = owner }

        package mutating func next() async throws -> Source? {
            if let source = sources.popFirst() { return source }
            if let end { return try finish(end) }
            let object = owner.call.object
            let (polled, result) = await withTaskCancellationHandler {
                await poll(owner.call)
            } onCancel: {
                object.cancel()
            }
            sources = polled
            end = result
            if let source = sources.popFirst() { return source }
            return try finish(result ?? .success(()))
        }

        /// No more polls, so the call may be closed as soon as its sources are, whatever becomes of the iterator.
        private func finish(_ end: Result<Void, any Error>) throws -> Source? {
            owner.call.object.close()
            try end.get()
            return nil
        }

        /// Polls until there are sources or an end.
        private func poll(_ call: PluginCall) async -> (Deque<Source>, Result<Void, any Error>?) {
            let object = call.object
            let executor = object.context.executor
            var idling = IdlePolls()
            if executor.isBehind { await Task.yield() }
            while true {
                let (sources, step, duration) =
                    if executor.isCurrent {
                        Self.pollOnce(call)
                    } else {
                        await withTaskExecutorPreference(executor, isolation: nil) { Self.pollOnce(call) }
                    }
                switch step {
                case .end: return (sources, .success(()))
                case .failed(let error): return (sources, .failure(error))
                case .stopped: return ([], .failure(object.stopReason))
                case .ready where sources.isEmpty:
                    object.context.counters.emptyPoll()
                    await idling.pause(object, function: "poll_sources", pollTook: duration)
                case .ready, .pending, .wait:
                    if !sources.isEmpty { return (sources, nil) }
                    await object.waitForWake()
                }
            }
        }

        private static func pollOnce(_ call: PluginCall) -> (Deque<Source>, PolledObject.Step, nanoseconds: UInt64) {
            let start = monotonicNanoseconds()
            var sink = SourceSink(call: call)
            let context = call.object.context
            let step = call.object.poll { pointer, handle in
                context.counters.sourcesPolled()
                return sink.withPointer(wakeHandle: handle) { sinkPointer in
                    let (status, message) = context.callFailing("poll_sources") { descriptor, error in
                        descriptor.pollSources(pointer, sinkPointer, error)
                    }
                    return PluginAnswer(poll: status, function: "poll_sources", message: message)
                }
            }
            return (sink.sources, step, monotonicNanoseconds() &- start)
        }
    }
}

/// What to do about a plugin that answers READY with nothing again and again: give way, then wait a little, so that it
/// cannot keep a thread busy for nothing.
struct IdlePolls {
    private var count = 0

    /// A poll that took so long did some work, and found nothing yet.
    private static let work: UInt64 = 20_000

    /// - Parameters:
    ///   - function: its name, for the log.
    ///   - duration: how long the poll took, in nanoseconds, without the wait for a thread.
    mutating func pause(_ object: PolledObject, function: StaticString, pollTook duration: UInt64) async {
        if duration > Self.work { return await Task.yield() }
        count += 1
        if count <= 16 { return await Task.yield() }
        if count == 17 {
            object.context.logger.warning(
                """
                plugin \(object.context.name): \(function) answers CHANSERV_READY without adding anything, again and \
                again; CHANSERV_PENDING and a wake would save the polls
                """)
        }
        // 1, 2, 4 … 64 ms. A cancellation ends the wait; the next poll finds it.
        do { try await Task.sleep(for: .milliseconds(1 << min(count - 17, 6))) } catch {}
    }
}
