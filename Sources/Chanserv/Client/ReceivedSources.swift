import NIOCore

/// The sources of one answer, in the order in which the service announced them.
///
/// Finishes when the service has no more, throws ``ChanservError`` when the request failed (after the sources announced
/// before). Up to ``Client/Configuration/sourceBuffer`` sources are fetched ahead. Dropping it ends the request.
public struct ReceivedSources: AsyncSequence, Sendable {
    public typealias Element = ReceivedSource
    public typealias Failure = ChanservError

    private let lease: Lease

    init(_ receiver: RequestReceiver) {
        lease = Lease(receiver)
        receiver.start()
    }

    /// Ends the request: sources that were not handed out are given up, those that were go on. Repeating it does
    /// nothing.
    public func cancel() {
        lease.receiver.cancel()
    }

    public func makeAsyncIterator() -> Iterator { Iterator(lease: lease) }

    /// Hands out the sources. Several iterators share them.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let lease: Lease

        /// The next source; `nil` when the service has no more.
        ///
        /// - Throws: ``ChanservError``; code `cancelled` where the waiting task was cancelled (the request goes on) or
        ///   ``ReceivedSources/cancel()`` was called.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(ChanservError) -> ReceivedSource? {
            try await lease.receiver.next()
        }

        public mutating func next() async throws(ChanservError) -> ReceivedSource? {
            try await lease.receiver.next()
        }
    }

    /// Ends the request with its last holder.
    fileprivate final class Lease: Sendable {
        let receiver: RequestReceiver

        init(_ receiver: RequestReceiver) {
            self.receiver = receiver
        }

        deinit { receiver.cancel() }
    }
}

/// A source as it was announced to a client.
public struct ReceivedSource: Sendable {
    /// What the service says about it; may be empty.
    public let header: ByteBuffer
    /// Where it comes from: the ends of the request's connection, as with the Go package.
    public let meta: SourceMeta
    /// What it consists of. Can be iterated once.
    public let frames: ReceivedFrames

    /// Gives the source up, at both ends and at once. Repeating it does nothing, nor does it matter to others.
    public func cancel() {
        frames.cancel()
    }
}
