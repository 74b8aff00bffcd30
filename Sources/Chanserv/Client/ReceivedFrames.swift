import NIOCore
import Synchronization

/// The frames of one source.
///
/// Finishes when the server has no more, throws ``ChanservError`` when the source failed, the network broke or a
/// deadline passed (after the frames before). Nothing is decoded before it is asked for: a source that nobody reads costs
/// its window. Can be iterated once; dropping the iterator, or all of the source, ends it at both ends.
public struct ReceivedFrames: AsyncSequence, Sendable {
    public typealias Element = ReceivedFrame
    public typealias Failure = ChanservError

    private let lease: Lease
    private let batchLimit: Int

    init(_ receiver: SourceReceiver, batchLimit: Int) {
        lease = Lease(receiver)
        self.batchLimit = Swift.max(1, batchLimit)
    }

    /// Gives the source up, at both ends and at once. Repeating it does nothing.
    public func cancel() {
        lease.receiver.cancel()
    }

    public func makeAsyncIterator() -> Iterator {
        Iterator(lease.claim(), batchLimit: batchLimit)
    }

    /// Hands out the frames.
    public struct Iterator: AsyncIteratorProtocol {
        @usableFromInline var decoder: FrameDecoder
        /// `nil` at the end, or in a second iterator.
        @usableFromInline var claim: Claim?
        private let batchLimit: Int
        private let isSecond: Bool

        fileprivate init(_ claim: Claim?, batchLimit: Int) {
            self.claim = claim
            self.batchLimit = batchLimit
            isSecond = claim == nil
            // What came behind the header.
            decoder = claim?.receiver.takeDecoder() ?? FrameDecoder(decompresses: true)
        }

        /// The next frame; `nil` when the server has no more. Does not suspend while there are frames at hand.
        ///
        /// - Throws: ``ChanservError``. Where the waiting task was cancelled the code is `cancelled`, and the source can be
        ///   read on unless it was still being fetched.
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

        /// All frames that are at hand, waiting for one while there is none; empty when the server has no more.
        ///
        /// - Returns: at most ``Client/Configuration/frameBuffer`` frames.
        /// - Throws: as ``next()``. Frames before a failure are returned first.
        public mutating func nextBatch() async throws(ChanservError) -> [ReceivedFrame] {
            guard let first = try await next() else { return [] }
            var frames = [first]
            while frames.count < batchLimit, let bytes = decoder.nextAtHand() { frames.append(ReceivedFrame(bytes)) }
            return frames
        }

        /// Compressed, cut and absent frames.
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
                    switch decoder.missing == nil ? receiver.takeAtHand() : .nothing {
                    case .bytes(let bytes): decoder.append(bytes)
                    case .ended:
                        try finish()
                        return nil
                    case .nothing: return try await read(receiver)
                    }
                }
            } catch {
                // A wait that was cancelled leaves the source as it is; after any other error there is nothing more.
                if error.cause is CancellationError { throw error }
                claim = nil
                decoder = FrameDecoder(decompresses: true)
                throw receiver.failed(error)
            }
        }

        /// Waits for a frame.
        ///
        /// A separate function: an async function that has a deadline allocates memory even if it does not wait.
        nonisolated(nonsending) private mutating func read(
            _ receiver: SourceReceiver
        ) async throws(ChanservError) -> ReceivedFrame? {
            let deadline = receiver.frameDeadline
            while true {
                if let missing = decoder.missing {
                    let came = try await decoder.read(missing) { buffer throws(ChanservError) in
                        try await receiver.read(missing, into: &buffer, deadline: deadline)
                    }
                    if came < missing { break }
                } else {
                    guard let bytes = try await receiver.read(deadline: deadline) else { break }
                    decoder.append(bytes)
                }
                if let bytes = try decoder.next() { return ReceivedFrame(bytes) }
            }
            try finish()
            return nil
        }

        /// The server has no more.
        private mutating func finish() throws(ChanservError) {
            try decoder.finish()
            claim = nil
        }
    }

    /// Ends the source with its last holder.
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

    /// What an iterator holds: ends the source when it is dropped.
    @usableFromInline
    final class Claim: Sendable {
        let receiver: SourceReceiver

        init(_ receiver: SourceReceiver) {
            self.receiver = receiver
        }

        deinit { receiver.cancel() }
    }
}
