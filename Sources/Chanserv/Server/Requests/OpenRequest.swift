/// A snapshot of an open request.
public struct OpenRequest: Sendable, Hashable {
    public enum State: String, Sendable, Hashable {
        /// The body has not arrived completely.
        case readingBody = "reading the request"
        /// The plugin has added no source yet.
        case waitingForSources = "waiting for the plugin"
        /// Frames are sent as they arrive.
        case sending
        /// The client has no room for more bytes.
        case waitingForClient = "waiting for the client"
        /// The request was answered or cancelled, and the plugin has not closed it.
        case ending
    }

    /// Unique among the requests of the process.
    public var id: UInt64
    public var vAddr: String
    /// The address of the client in the network's notation.
    public var client: String
    /// The time since the request was dialled.
    public var age: Duration
    /// Sources that have not ended.
    public var sourcesOpen: Int
    public var sourcesTotal: Int
    public var frames: Int
    /// The encoded bytes of the frames.
    public var bytes: Int
    public var state: State
}
