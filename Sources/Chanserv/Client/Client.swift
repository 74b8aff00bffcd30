import NIOCore

/// Posts requests to services and receives their sources.
public struct Client: Sendable {
    /// The network on which names are looked up and dialled.
    public let multiplexer: any Multiplexer
    /// The options of all requests of this client.
    public let configuration: Configuration

    /// Creates a client. This opens no connection.
    public init(multiplexer: any Multiplexer, configuration: Configuration = Configuration()) {
        self.multiplexer = multiplexer
        self.configuration = configuration
    }

    /// Posts `body` to the service at `vAddr`.
    ///
    /// - Parameters:
    ///   - vAddr: the virtual address.
    ///   - body: the request body, at most 100 MiB.
    ///   - tags: ``RequestTag/bucket`` chooses among several offers of the name. ``RequestTag/meta`` is free text.
    ///     Servers of this library receive both; Go servers receive neither.
    ///   - deadline: the time at which the client gives the request up, with sources that are not complete. Servers of
    ///     this library end the request then too. `nil` (the default) for none.
    ///   - traceParent: a W3C `traceparent` for the server; `nil` (the default) for none.
    /// - Returns: the sources, in the order in which the service lists them. Dropping the sequence or calling
    ///   ``ReceivedSources/cancel()`` ends the request. Sources that the caller already received go on.
    /// - Throws: ``ChanservError`` with code `notFound`, `deadlineExceeded`, `refused`, `connectionLost`,
    ///   `wrongFrameSize`, `limitReached` (the tags are too long), `cancelled`, or `sourceFailed` if the service
    ///   refused the request.
    public nonisolated(nonsending) func lookupAndPost(
        _ vAddr: String, body: some Frame, tags: RequestTags = [:], deadline: ContinuousClock.Instant? = nil,
        traceParent: String? = nil
    ) async throws(ChanservError) -> ReceivedSources {
        var batch = FrameBatch()
        try batch.append(uncompressed: body)
        let bytes = batch.take()
        var options = DialOptions(
            bucket: tags[.bucket], first: bytes,
            context: RequestContext(
                deadline: deadline, meta: tags[.meta], bucket: tags[.bucket], traceParent: traceParent),
            maximumPushedSources: configuration.acceptsPushedSources ? max(1, configuration.sourceBuffer) : 0)
        options.repeats = configuration.repeats
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
                // The server may answer without reading the whole request. This error is thrown only if it does not
                // answer.
                unsent = ChanservError(error, while: "posting to \(vAddr)")
            } catch {
                // The server cannot use an incomplete request.
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
    /// Returns the earlier of two deadlines; `nil` means none.
    func orEarlier(_ other: ContinuousClock.Instant?) -> ContinuousClock.Instant { other.map { min(self, $0) } ?? self }
}
