internal import Chanserv

/// A source of a plugin, as the server pulls from it.
///
/// Dropping it closes it too, so that a source nobody took is closed in any case.
final class PluginSource: FrameProducer {
    private let object: PolledObject

    init(_ object: PolledObject) {
        self.object = object
    }

    deinit { object.close() }

    func produce(into batch: inout FrameBatch) async throws -> Bool {
        try await withTaskCancellationHandler {
            try await pollUntilFrames(into: &batch)
        } onCancel: {
            object.cancel()
        }
    }

    func close() {
        object.close()
    }

    /// Polls until there are frames or an end, and on while more come without delay and there is room.
    private func pollUntilFrames(into batch: inout FrameBatch) async throws -> Bool {
        let executor = object.context.executor
        // A source that always has frames, read by a client that always takes them, would keep its thread for ever.
        if executor.isBehind { await Task.yield() }
        let start = monotonicNanoseconds()
        var idling = IdlePolls()
        while true {
            let before = batch.count
            let (step, isFull, duration) =
                if executor.isCurrent {
                    pollOnce(into: &batch)
                } else {
                    await withTaskExecutorPreference(executor, isolation: nil) { pollOnce(into: &batch) }
                }
            switch step {
            case .end: return false
            case .failed(let error): throw error
            case .stopped: throw object.stopReason
            case .ready where batch.count == before:
                object.context.counters.emptyPoll()
                if !batch.isEmpty { return true }
                await idling.pause(object, function: "poll_frames", pollTook: duration)
            case .ready:
                guard !isFull, !batch.isFull, !object.context.descriptor.isBlocking,
                    monotonicNanoseconds() &- start < Self.gatheringTime
                else { return true }
            case .pending, .wait:
                if !batch.isEmpty { return true }
                await object.waitForWake()
            }
        }
    }

    /// How long frames that are there wait for more from further polls: 200 µs, so that a plugin that hands out one
    /// frame at a poll does not cost a write each, and nobody notices the delay.
    private static let gatheringTime: UInt64 = 200_000

    /// - Returns: what came of it, and whether a frame found no room beside the others, so that asking again is in vain,
    ///   and how long it took.
    ///
    /// Not inlined: what it needs would become part of what each source keeps that waits.
    @inline(never)
    private func pollOnce(into batch: inout FrameBatch) -> (PolledObject.Step, isFull: Bool, nanoseconds: UInt64) {
        let start = monotonicNanoseconds()
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
        return (step, isFull, monotonicNanoseconds() &- start)
    }
}
