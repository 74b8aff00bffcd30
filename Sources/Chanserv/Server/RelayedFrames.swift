/// The frames of a source of another server, passed on as they come: not decoded, not copied, only counted.
///
/// `@unchecked Sendable`: only `produce` touches the walk, and it is never called concurrently with itself.
package final class RelayedFrames: FrameProducer, @unchecked Sendable {
    private let frames: ReceivedFrames
    private let explain: @Sendable (ChanservError) async -> any Error
    private let onClose: @Sendable () -> Void
    private var walk = FrameWalk()

    /// - Parameters:
    ///   - frames: of the source; nobody else may iterate them.
    ///   - explain: what to say for an error of the other server, or of the way to it.
    ///   - onClose: called once, when no more is needed of the source.
    package init(
        _ frames: ReceivedFrames, explain: @escaping @Sendable (ChanservError) async -> any Error,
        onClose: @escaping @Sendable () -> Void
    ) {
        self.frames = frames
        self.explain = explain
        self.onClose = onClose
    }

    package func produce(into batch: inout FrameBatch) async throws -> Bool {
        do throws(ChanservError) {
            guard let bytes = try await frames.receiver.read(deadline: nil) else {
                guard walk.isBetweenFrames else {
                    throw ChanservError(.truncatedFrame, "the stream ended in the middle of a frame")
                }
                return false
            }
            batch.adopt(bytes, frames: try walk.ends(in: bytes))
            return true
        } catch {
            if error.cause is CancellationError { throw CancellationError() }
            throw await explain(error)
        }
    }

    package func close() {
        frames.cancel()
        onClose()
    }
}
