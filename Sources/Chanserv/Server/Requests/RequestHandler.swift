/// Serves the requests of a service without suspending: a plugin instance, a worker, or an asynchronous source
/// function.
package protocol RequestHandler: Sendable {
    /// Begins to serve a request whose body has arrived.
    ///
    /// Called on a network thread, at the end of a read. It must return at once. The handler attaches its work with
    /// ``RequestScope/attach(_:)`` and calls ``RequestScope/handlerFinished()`` once when it needs the request no more.
    func begin(_ request: Request, in scope: RequestScope)
}

/// Receives the results of requests, see ``RequestScope/observe(by:)``.
package protocol RequestObserver: AnyObject, Sendable {
    /// Called on any thread, and must not block. Called once for each request, with one exception: a long request that
    /// counted as a success may still fail.
    ///
    /// - Parameter latency: the time from the dial to the first frames; to this call if there were none.
    func requestEnded(_ result: RequestResult, after latency: Duration)
}

/// The result of a request, as the error mass counts it.
package enum RequestResult: Sendable, Hashable {
    case succeeded
    case failed
    /// The client went away, or its deadline has passed.
    case abandoned
    /// The client caused the error, or an operator or the end of the service ended the request.
    case undecided
}

/// The work on one request. Any thread may call the functions. They return at once.
package protocol RequestWork: AnyObject, Sendable {
    /// Continues the listing: there may be room for another source.
    func resume()
    /// Stops the work: the request has ended and accepts no more sources.
    func cancel()
}

/// The work that makes the frames of one source. Any thread may call the functions. They return at once.
package protocol SourceWork: AnyObject, Sendable {
    /// Continues the source: there may be room for frames. Called after the source was added, and after a write that
    /// found no room.
    func resume()
    /// Stops the work: the source has ended and accepts no more frames. Called at most once, and not after
    /// ``SourceOutput/finish(_:)``.
    func cancel()
}

/// The destination of a source's frames.
package protocol SourceOutput: AnyObject, Sendable {
    /// Sends the frames of `batch`, which is empty afterwards.
    ///
    /// - Returns: whether there is room for more. If not, ``SourceWork/resume()`` is called when there is.
    func write(_ batch: inout FrameBatch) -> SourceRoom

    /// Whether there is room. If not, ``SourceWork/resume()`` is called when there is.
    var room: SourceRoom { get }

    /// The encoding of the frames.
    var encoding: SourceEncoding { get }

    /// Ends the source: after all its frames, or with `error`.
    func finish(_ error: (any Error)?)
}

/// Whether a source accepts frames.
package enum SourceRoom: Sendable, Hashable {
    case free
    /// The source accepts no frames now, but will later.
    case full
    /// The source has ended.
    case ended
}

/// The encoding of a source's frames.
package struct SourceEncoding: Sendable, Hashable {
    /// Whether frames of more than 12 bytes are compressed if that makes them smaller.
    package var compression: Bool
    /// Size in bytes at which a batch is sent.
    package var batchSize: Int

    package init(compression: Bool, batchSize: Int) {
        self.compression = compression
        self.batchSize = batchSize
    }
}
