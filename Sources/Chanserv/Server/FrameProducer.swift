/// A source of frames that fills batches: what a server pulls from.
///
/// An `AsyncSequence` of frames is adapted to this by ``Source/init(header:frames:)``. Conform directly where many frames
/// come at once.
public protocol FrameProducer: Sendable {
    /// Appends frames to `batch`, waiting only while it is empty and there is none.
    ///
    /// The server calls it again as soon as the connection has room, never concurrently with itself, and for the last
    /// time when it returned `false`, threw, or its task was cancelled because the client is gone, a deadline passed
    /// or the server stops. A wait must end on cancellation.
    ///
    /// - Parameter batch: where the frames go; stop appending when it ``FrameBatch/isFull``.
    /// - Returns: whether there may be more; frames appended by a call that returns `false` are still sent.
    /// - Throws: what ended the source; frames appended before are still sent, then the client's sequence throws the
    ///   error's description.
    func produce(into batch: inout FrameBatch) async throws -> Bool

    /// Called exactly once when the server needs no more of this source, after the last ``produce(into:)`` has returned,
    /// also where there was none because no client ever came.
    func close()
}
