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
    ///   - tags: ``RequestTag/bucket`` chooses among several offers of the name.
    /// - Returns: the sources, as the service announces them. Dropping it, or ``ReceivedSources/cancel()``, ends the
    ///   request; sources handed out before go on.
    /// - Throws: ``ChanservError`` with code `notFound`, `deadlineExceeded`, `refused`, `connectionLost`,
    ///   `wrongFrameSize`, `cancelled`, or `sourceFailed` where the service refused the request.
    public func lookupAndPost(
        _ vAddr: String, body: some Frame, tags: RequestTags = [:]
    ) async throws -> ReceivedSources {
        var batch = FrameBatch()
        try batch.append(uncompressed: body)
        let bytes = batch.take()
        do {
            let (master, isSent) = try await multiplexer.dial(
                vAddr, bucket: tags[.bucket], sending: bytes, deadline: .now + configuration.dialTimeout)
            var unsent: ChanservError?
            do {
                if !isSent { try await master.write(bytes, deadline: configuration.masterWriteTimeout.deadline) }
            } catch let error as ConnectionError where error.code == .closedByPeer {
                // A server may answer without the end of the request. If it did not answer, this is the reason.
                unsent = ChanservError(error, while: "posting to \(vAddr)")
            } catch {
                // Half a request is of no use to anybody.
                master.abort("the client gave the request up")
                throw error
            }
            return ReceivedSources(RequestReceiver(master, multiplexer, configuration, unsent: unsent))
        } catch {
            let failure = ChanservError(error, while: "posting to \(vAddr)")
            if failure.code != .cancelled { configuration.onError(failure) }
            throw failure
        }
    }
}
