/// Produces the frames of a source, in batches, when the server asks for them.
///
/// ``Source/init(header:frames:)`` adapts an `AsyncSequence` of frames. Conform directly if many frames are available
/// at once.
public protocol FrameProducer: Sendable {
    /// Appends frames to `batch`. May wait only while `batch` is empty and no frame is available.
    ///
    /// The server calls it again as soon as the connection has room, and never concurrently with itself. The last call
    /// is the one that returns `false`, throws, or whose task is cancelled because the client is gone, a deadline
    /// passed or the server stops. A wait must end when the task is cancelled.
    ///
    /// - Parameter batch: the batch to which frames are appended. Stop appending when it ``FrameBatch/isFull``.
    /// - Returns: whether there may be more frames. Frames that a call appends before it returns `false` are sent.
    /// - Throws: the error that ends the source. Frames appended before are sent. Then the client's sequence throws an
    ///   error with this error's description.
    func produce(into batch: inout FrameBatch) async throws -> Bool

    /// Frees the resources of the source. Called exactly once, after the last ``produce(into:)`` has returned, also if
    /// ``produce(into:)`` was never called because the client did not accept the source.
    func close()
}
