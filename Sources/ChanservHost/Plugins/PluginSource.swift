internal import Chanserv
internal import Synchronization

/// A source of a plugin: it polls the plugin for frames and sends them.
final class PluginSource: SourceWork, PolledOwner {
    private let object: PolledObject
    private let request: PluginRequest
    private let output = Mutex<(any SourceOutput)?>(nil)
    /// Polls in a row that brought nothing. Used in turns only, which do not overlap.
    private nonisolated(unsafe) var idlePolls = IdlePolls()
    /// Whether turns wait until the source was added; see ``start(_:inPlace:)``.
    private let beginning = Atomic<Beginning>(.over)

    private enum Beginning: UInt8, AtomicRepresentable {
        case over
        /// It is being added.
        case adding
        /// As `adding`, and there is room for frames.
        case wanted
    }

    var scope: RequestScope { request.scope }

    init(_ pointer: PluginPointer, of request: PluginRequest) {
        self.request = request
        object = PolledObject(.source, pointer, context: request.context, isInline: request.isInline)
        object.register(self)
    }

    func setOutput(_ output: any SourceOutput) {
        self.output.withLock { $0 = output }
    }

    // MARK: - SourceWork

    func resume() {
        guard beginning.compareExchange(expected: .adding, desired: .wanted, ordering: .relaxed).original == .over
        else { return }
        // Not on a plugin thread that happens to bring the news: it holds what it is in the middle of, e.g. other sources of the
        // request, for as long as the plugin does not return.
        object.turn(inPlace: scope.isOnNetworkThread)
    }

    /// Starts the source, which was added to the request.
    ///
    /// - Parameter inPlace: whether the first turn is taken here, after all else, if this is the right thread.
    func start(_ output: SourceScope, inPlace: Bool) {
        beginning.store(.adding, ordering: .relaxed)
        output.start()
        if beginning.exchange(.over, ordering: .relaxed) == .wanted { object.turn(inPlace: inPlace) }
    }

    func cancel() {
        output.withLock { $0 = nil }
        object.stop()
    }

    // MARK: - Turns

    /// Polls until there is no more room, nothing to send, or the end.
    func takeTurn() -> Bool {
        guard let output = output.withLock({ $0 }) else { return false }
        guard output.room == .free else { return false }
        let begin = monotonicNanoseconds()
        let encoding = output.encoding
        var batch = FrameBatch(compression: encoding.compression, target: encoding.batchSize)
        while true {
            let before = batch.count
            let (step, isFull) = poll(into: &batch)
            let now = monotonicNanoseconds()
            switch step {
            case .end:
                send(&batch, to: output)
                finish(output, nil)
                return false
            case .failed(let error):
                send(&batch, to: output)
                finish(output, error)
                return false
            case .stopped: return false
            case .wait:
                send(&batch, to: output)
                return false
            case .pending(let isWoken):
                // What came with it does not wait for more.
                guard send(&batch, to: output), isWoken else { return false }
            case .ready where batch.count == before:
                if !isFull { object.context.counters.emptyPoll() }
                guard batch.isEmpty else {
                    return send(&batch, to: output)
                }
                return idlePolls.next(object, function: "poll_frames", in: scope)
            case .ready:
                idlePolls = IdlePolls()
                // Frames that are there wait for more from further polls, so that a plugin that hands out one frame at a poll
                // does not cost a write each. Not of a plugin that blocks: the next poll may take long.
                if isFull || batch.isFull || object.context.descriptor.isBlocking || now &- begin > PluginContext.turn {
                    guard send(&batch, to: output) else { return false }
                }
            }
            if now &- begin > PluginContext.turn || object.context.executor.isBehind && !object.isInline {
                return send(&batch, to: output)
            }
        }
    }

    /// - Returns: whether there is room for more.
    @discardableResult
    private func send(_ batch: inout FrameBatch, to output: any SourceOutput) -> Bool {
        batch.isEmpty || output.write(&batch) == .free
    }

    private func finish(_ output: any SourceOutput, _ error: PluginError?) {
        self.output.withLock { $0 = nil }
        output.finish(error)
        object.close()
    }

    func closed() {
        object.callClose(in: scope) { [request] in request.sourceClosed() }
    }

    /// - Returns: what came of it, and whether a frame found no room beside the others, so that asking again is in vain.
    private func poll(into batch: inout FrameBatch) -> (PolledObject.Step, isFull: Bool) {
        let context = object.context
        var isFull = false
        let step = object.poll { pointer, handle in
            withUnsafeMutablePointer(to: &batch) { batch in
                var sink = FrameSink(batch, context: context)
                let (status, message) = sink.withPointer(wakeHandle: handle) { sinkPointer in
                    context.callFailing("poll_frames") { descriptor, error in
                        descriptor.pollFrames(pointer, sinkPointer, error)
                    }
                }
                context.counters.framesPolled(sink.frames, bytes: sink.bytes)
                isFull = sink.isFull
                return PluginAnswer(poll: status, function: "poll_frames", message: message)
            }
        }
        return (step, isFull)
    }
}
