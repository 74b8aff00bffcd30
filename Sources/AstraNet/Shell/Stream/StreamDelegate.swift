/// A receiver of stream events, which is called on the event loop of the stream's link.
package protocol StreamDelegate: AnyObject, Sendable {
    /// Handles one or more events: bytes arrived, writing is possible again, the peer accepted or ended the stream, or
    /// the server pushed a source.
    ///
    /// The event loop calls this at the end of a read, after all ops of the read, and without a lock. Several events
    /// lead to one call, so the delegate must inspect the stream.
    func streamChanged(_ stream: MeshStream)
}
