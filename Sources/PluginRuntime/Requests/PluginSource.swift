internal import Chanserv
internal import Synchronization

/// Source of a plugin. Polls the plugin for frames and sends them.
final class PluginSource: SourceWork, PolledOwner {
    private let object: PolledObject
    private let request: PluginRequest
    private let output = Mutex<(any SourceOutput)?>(nil)
    /// Consecutive polls without a result. Used only in turns, which do not overlap.
    private nonisolated(unsafe) var idlePolls = IdlePolls()
    /// Whether turns must wait until the source is added; see ``start(_:inPlace:)``.
    private let startPhase = Atomic<StartPhase>(.idle)

    private enum StartPhase: UInt8, AtomicRepresentable {
        case idle
        /// The source is being added.
        case adding
        /// The source is being added, and the client already takes frames.
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
        guard startPhase.compareExchange(expected: .adding, desired: .wanted, ordering: .relaxed).original == .idle
        else { return }
        // Not in place on a plugin thread: the thread may be in the middle of another turn, for example of another
        // source. This source would delay that turn until the plugin returns.
        object.turn(inPlace: scope.isOnNetworkThread)
    }

    /// Starts the source, which was added to the request.
    ///
    /// - Parameter inPlace: whether the first turn runs on this thread, as the last action, if the thread is suitable.
    func start(_ output: SourceScope, inPlace: Bool) {
        startPhase.store(.adding, ordering: .relaxed)
        output.start()
        if startPhase.exchange(.idle, ordering: .relaxed) == .wanted { object.turn(inPlace: inPlace) }
    }

    func cancel() {
        output.withLock { $0 = nil }
        object.stop()
    }

    // MARK: - Turns

    /// Polls until the output takes no more frames, or the plugin has nothing to send, or the source ends.
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
                // Frames that came with PENDING are sent at once.
                guard send(&batch, to: output), isWoken else { return false }
            case .ready where batch.count == before:
                if !isFull { object.context.counters.emptyPoll() }
                guard batch.isEmpty else {
                    return send(&batch, to: output)
                }
                return idlePolls.next(object, function: "poll_frames", in: scope)
            case .ready:
                idlePolls = IdlePolls()
                // Frames wait for further polls, so that a plugin that returns one frame per poll does not cost one
                // write per frame. Not for a blocking plugin, because its next poll may take long.
                if isFull || batch.isFull || object.context.descriptor.isBlocking || now &- begin > PluginContext.turn {
                    guard send(&batch, to: output) else { return false }
                }
            }
            if now &- begin > PluginContext.turn || object.context.executor.isBehind && !object.isInline {
                return send(&batch, to: output)
            }
        }
    }

    /// - Returns: whether the output takes more frames.
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

    /// - Returns: the result of the poll, and whether the batch had no room for a frame, so that another poll is
    ///   useless.
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
