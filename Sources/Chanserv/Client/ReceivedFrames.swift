import NIOCore
import Synchronization

/// The frames of one source.
///
/// The sequence finishes after the last frame. It throws ``ChanservError`` if the source failed, the connection broke
/// or a deadline passed; frames that arrived before are returned first. Frames are decoded when the consumer asks for
/// them, so a source that is not read uses only the memory of its window. The sequence can be iterated once. Dropping
/// the iterator, or the source with this sequence, ends the source at client and server.
public struct ReceivedFrames: AsyncSequence, Sendable {
    public typealias Element = ReceivedFrame
    public typealias Failure = ChanservError

    private let lease: Lease
    private let batchLimit: Int

    init(_ receiver: SourceReceiver, batchLimit: Int) {
        lease = Lease(receiver)
        self.batchLimit = Swift.max(1, batchLimit)
    }

    /// Gives the source up at once, at client and server. Further calls do nothing.
    public func cancel() {
        lease.receiver.cancel()
    }

    public func makeAsyncIterator() -> Iterator {
        Iterator(lease.claim(), batchLimit: batchLimit)
    }

    /// Returns the frames of one source.
    public struct Iterator: AsyncIteratorProtocol {
        @usableFromInline var decoder: FrameDecoder
        /// The source; `nil` after its end and in a second iterator.
        @usableFromInline var claim: Claim?
        private let batchLimit: Int
        private let isSecond: Bool

        fileprivate init(_ claim: Claim?, batchLimit: Int) {
            self.claim = claim
            self.batchLimit = batchLimit
            isSecond = claim == nil
            // The decoder may hold bytes that arrived behind the header.
            decoder = claim?.receiver.takeDecoder() ?? FrameDecoder(decompresses: true)
        }

        /// Returns the next frame; `nil` after the last one. Does not suspend while a frame is buffered.
        ///
        /// - Throws: ``ChanservError``. The code is `cancelled` if the waiting task was cancelled. The source can then
        ///   be read on, unless its dial was not answered yet.
        @inlinable
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(ChanservError) -> ReceivedFrame? {
            if let bytes = decoder.nextAtHand() { return ReceivedFrame(bytes) }
            return try await nextWaiting()
        }

        @inlinable
        public nonisolated(nonsending) mutating func next() async throws(ChanservError) -> ReceivedFrame? {
            if let bytes = decoder.nextAtHand() { return ReceivedFrame(bytes) }
            return try await nextWaiting()
        }

        /// Returns all buffered frames. Waits for one if there is none. Returns an empty array after the last frame.
        ///
        /// - Returns: at most ``Client/Configuration/frameBuffer`` frames.
        /// - Throws: as ``next()``. Frames before a failure are returned first.
        public mutating func nextBatch() async throws(ChanservError) -> [ReceivedFrame] {
            guard let first = try await next() else { return [] }
            var frames = [first]
            while frames.count < batchLimit, let bytes = decoder.nextAtHand() { frames.append(ReceivedFrame(bytes)) }
            return frames
        }

        /// The slow path of ``next()``: compressed frames, incomplete frames, and waiting.
        @usableFromInline
        @inline(never)
        nonisolated(nonsending) mutating func nextWaiting() async throws(ChanservError) -> ReceivedFrame? {
            guard let receiver = claim?.receiver else {
                if isSecond { throw ChanservError(.cancelled, "the frames of a source can be iterated only once") }
                return nil
            }
            do throws(ChanservError) {
                while true {
                    if let bytes = try decoder.next() { return ReceivedFrame(bytes) }
                    switch decoder.missing == nil ? receiver.takeBuffered() : .nothing {
                    case .bytes(let bytes): decoder.append(bytes)
                    case .ended:
                        try finish()
                        return nil
                    case .nothing: return try await read(receiver)
                    }
                }
            } catch {
                // A cancelled wait leaves the source as it is. Any other error ends it.
                if error.cause is CancellationError { throw error }
                claim = nil
                decoder = FrameDecoder(decompresses: true)
                throw receiver.failed(error)
            }
        }

        /// Waits for a frame.
        ///
        /// This is a separate function because an async function with a deadline allocates memory even if it does not
        /// wait.
        nonisolated(nonsending) private mutating func read(
            _ receiver: SourceReceiver
        ) async throws(ChanservError) -> ReceivedFrame? {
            let deadline = receiver.frameDeadline
            while true {
                if let missing = decoder.missing {
                    let count = try await decoder.read(missing) { buffer throws(ChanservError) in
                        try await receiver.read(missing, into: &buffer, deadline: deadline)
                    }
                    if count < missing { break }
                } else {
                    guard let bytes = try await receiver.read(deadline: deadline) else { break }
                    decoder.append(bytes)
                }
                if let bytes = try decoder.next() { return ReceivedFrame(bytes) }
            }
            try finish()
            return nil
        }

        /// Ends the sequence after the last frame.
        private mutating func finish() throws(ChanservError) {
            try decoder.finish()
            claim = nil
        }
    }

    /// Ends the source when its last owner is dropped and no iterator was made.
    fileprivate final class Lease: Sendable {
        let receiver: SourceReceiver
        private let isClaimed = Atomic(false)

        init(_ receiver: SourceReceiver) {
            self.receiver = receiver
        }

        deinit { if !isClaimed.load(ordering: .relaxed) { receiver.cancel() } }

        /// Returns the claim the first time, `nil` after that.
        func claim() -> Claim? {
            isClaimed.exchange(true, ordering: .relaxed) ? nil : Claim(receiver)
        }
    }

    /// The iterator's ownership of the source. Ends the source when it is dropped.
    @usableFromInline
    final class Claim: Sendable {
        let receiver: SourceReceiver

        init(_ receiver: SourceReceiver) {
            self.receiver = receiver
        }

        deinit { receiver.cancel() }
    }
}
