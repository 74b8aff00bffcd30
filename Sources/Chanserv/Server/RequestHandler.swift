/// Serves the requests of a service without waiting: a plugin's instance, a worker, or an asynchronous source function.
package protocol RequestHandler: Sendable {
    /// Begins to serve a request whose body is there.
    ///
    /// Called on a thread of the network, at the end of a read. It must return at once. It attaches its work with
    /// ``RequestScope/attach(_:)`` and calls ``RequestScope/released()`` once when it needs the request no more.
    func begin(_ request: Request, in scope: RequestScope)
}

/// Code that works on a request. All functions may be called from any thread, and return at once.
package protocol RequestWork: AnyObject, Sendable {
    /// There may be room for another source.
    func resume()
    /// The request has ended: no more sources are taken.
    func cancel()
}

/// Code that makes the frames of a source. All functions may be called from any thread, and return at once.
package protocol SourceWork: AnyObject, Sendable {
    /// There may be room for frames: after the source was added, and after a write that found none.
    func resume()
    /// The source has ended: no more frames are taken. Called once at most, not after ``SourceOutput/finish(_:)``.
    func cancel()
}

/// Where the frames of a source go.
package protocol SourceOutput: AnyObject, Sendable {
    /// Sends the frames of `batch`, which is empty afterwards.
    ///
    /// - Returns: whether there is room for more; if not, ``SourceWork/resume()`` is called when there is.
    func write(_ batch: inout FrameBatch) -> SourceRoom

    /// Whether there is room; if not, ``SourceWork/resume()`` is called when there is.
    var room: SourceRoom { get }

    /// How frames are encoded.
    var encoding: SourceEncoding { get }

    /// There are no more frames: all were sent, or `error` ended the source.
    func finish(_ error: (any Error)?)
}

/// Whether a source takes frames.
package enum SourceRoom: Sendable, Hashable {
    case free
    /// Later.
    case full
    /// Never again: the source has ended.
    case ended
}

/// How the frames of a source are encoded.
package struct SourceEncoding: Sendable, Hashable {
    /// Whether frames of more than 12 bytes are compressed if that makes them smaller.
    package var compression: Bool
    /// At how many bytes a batch is sent.
    package var batchSize: Int

    package init(compression: Bool, batchSize: Int) {
        self.compression = compression
        self.batchSize = batchSize
    }
}
