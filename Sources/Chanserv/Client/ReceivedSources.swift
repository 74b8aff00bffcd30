import NIOCore

/// The sources of one answer, in the order in which the service announced them.
///
/// Finishes when the service has no more, throws ``ChanservError`` when the request failed (after the sources announced
/// before). Up to ``Client/Configuration/sourceBuffer`` sources are fetched ahead. Dropping it ends the request.
public struct ReceivedSources: AsyncSequence, Sendable {
    public typealias Element = ReceivedSource
    public typealias Failure = ChanservError

    private let request: PostedRequest

    init(_ request: PostedRequest) {
        self.request = request
    }

    /// Ends the request: sources that were not handed out are given up, those that were go on. Repeating it does
    /// nothing.
    public func cancel() {
        request.cancel()
    }

    public func makeAsyncIterator() -> Iterator { Iterator(request: request) }

    /// Hands out the sources. Several iterators share them.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let request: PostedRequest

        /// The next source; `nil` when the service has no more.
        ///
        /// - Throws: ``ChanservError``; code `cancelled` where the waiting task was cancelled (the request goes on) or
        ///   ``ReceivedSources/cancel()`` was called.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(ChanservError) -> ReceivedSource? {
            try await request.next()
        }

        public nonisolated(nonsending) mutating func next() async throws(ChanservError) -> ReceivedSource? {
            try await request.next()
        }
    }
}

/// A source as it was announced to a client.
public struct ReceivedSource: Sendable {
    /// What the service says about it; may be empty.
    public let header: ByteBuffer
    /// Where it comes from: the ends of the request's connection, as with the Go package.
    public var meta: SourceMeta { SourceMeta(connection.addresses) }
    let connection: any Connection
    /// What it consists of. Can be iterated once.
    public let frames: ReceivedFrames

    /// Gives the source up, at both ends and at once. Repeating it does nothing, nor does it matter to others.
    public func cancel() {
        frames.cancel()
    }
}
