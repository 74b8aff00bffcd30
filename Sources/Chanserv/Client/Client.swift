import NIOCore

/// Posts requests to services and receives what they answer.
public struct Client: Sendable {
    /// Where names are looked up and dialled.
    public let multiplexer: any Multiplexer
    /// The options of all its requests.
    public let configuration: Configuration

    /// Makes a client. It does nothing by itself.
    public init(multiplexer: any Multiplexer, configuration: Configuration = Configuration()) {
        self.multiplexer = multiplexer
        self.configuration = configuration
    }

    /// Posts `body` to the service at `vAddr`.
    ///
    /// - Parameters:
    ///   - vAddr: the virtual address.
    ///   - body: the request, at most 100 MiB.
    ///   - tags: ``RequestTag/bucket`` chooses among several offers of the name, ``RequestTag/meta`` is free text. Servers
    ///     of this library get both; Go servers do not.
    ///   - deadline: when the client gives the request up, with sources that are still coming; servers of this library end the
    ///     request then. `nil`, the default, for none.
    ///   - traceParent: a W3C `traceparent` for the server; `nil`, the default, for none.
    /// - Returns: the sources, in the order of the service. Dropping it, or ``ReceivedSources/cancel()``, ends the
    ///   request; sources handed out before go on.
    /// - Throws: ``ChanservError`` with code `notFound`, `deadlineExceeded`, `refused`, `connectionLost`,
    ///   `wrongFrameSize`, `limitReached` (for tags that are too long), `cancelled`, or `sourceFailed` where the service
    ///   refused the request.
    public nonisolated(nonsending) func lookupAndPost(
        _ vAddr: String, body: some Frame, tags: RequestTags = [:], deadline: ContinuousClock.Instant? = nil,
        traceParent: String? = nil
    ) async throws -> ReceivedSources {
        var batch = FrameBatch()
        try batch.append(uncompressed: body)
        let bytes = batch.take()
        let options = DialOptions(
            bucket: tags[.bucket], first: bytes,
            context: RequestContext(
                deadline: deadline, meta: tags[.meta], bucket: tags[.bucket], traceParent: traceParent),
            maximumPushedSources: configuration.acceptsPushedSources ? max(1, configuration.sourceBuffer) : 0)
        do {
            let now = multiplexer.surroundings.now
            let (connection, isSent) = try await multiplexer.dial(
                vAddr, options, deadline: (now() + configuration.dialTimeout).orEarlier(deadline))
            var unsent: ChanservError?
            do {
                if !isSent, try !connection.write(bytes) {
                    try await connection.waitForRoom(
                        deadline: configuration.masterWriteTimeout.map { (now() + $0).orEarlier(deadline) } ?? deadline)
                }
            } catch let error as ConnectionError where error.code == .closedByPeer {
                // A server may answer without the end of the request. If it did not answer, this is the reason.
                unsent = ChanservError(error, while: "posting to \(vAddr)")
            } catch {
                // Half a request is of no use to the server.
                connection.abort("the client gave the request up")
                throw error
            }
            return ReceivedSources(
                PostedRequest(connection, multiplexer, configuration, deadline: deadline, unsent: unsent))
        } catch {
            let failure = ChanservError(error, while: "posting to \(vAddr)")
            if failure.code != .cancelled { configuration.onError(failure) }
            throw failure
        }
    }
}

extension ContinuousClock.Instant {
    /// The earlier one of two deadlines.
    func orEarlier(_ other: ContinuousClock.Instant?) -> ContinuousClock.Instant { other.map { min(self, $0) } ?? self }
}
