import NIOCore

/// The sources of one request, in the order in which the service announced them.
///
/// The sequence finishes after the last source of the service. If the request fails, it first returns the sources that
/// were announced before, then throws ``ChanservError``. The client fetches up to ``Client/Configuration/sourceBuffer``
/// sources ahead of the consumer. Dropping the sequence ends the request.
public struct ReceivedSources: AsyncSequence, Sendable {
    public typealias Element = ReceivedSource
    public typealias Failure = ChanservError

    private let request: PostedRequest

    init(_ request: PostedRequest) {
        self.request = request
    }

    /// Ends the request. Sources that the consumer has not received are given up; the others go on. Further calls do
    /// nothing.
    public func cancel() {
        request.cancel()
    }

    public func makeAsyncIterator() -> Iterator { Iterator(request: request) }

    /// Returns the sources. If there are several iterators, each source goes to one of them.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let request: PostedRequest

        /// Returns the next source; `nil` after the last one.
        ///
        /// - Throws: ``ChanservError``. The code is `cancelled` if the waiting task was cancelled (the request goes on)
        ///   or ``ReceivedSources/cancel()`` was called.
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

/// A source that a client received.
public struct ReceivedSource: Sendable {
    /// The header that the service sent for this source; may be empty.
    public let header: ByteBuffer
    /// The addresses of both ends of the request's connection, as in the Go package.
    public var meta: SourceMeta { SourceMeta(connection.addresses) }
    let connection: any Connection
    /// The frames of the source. They can be iterated once.
    public let frames: ReceivedFrames

    /// Gives the source up at once, at client and server. Further calls do nothing. Other sources of the request are
    /// not affected.
    public func cancel() {
        frames.cancel()
    }
}
