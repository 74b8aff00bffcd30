internal import NIOCore

/// The effects of an op on its stream. ``LinkStreams`` performs them after the stream's lock is released.
struct StreamOpEffects {
    var queuesWake = false
    var queuesFlush = false
    var isForgotten = false
    /// Whether the op is the FIN2 of a request whose last sources may arrive over another link.
    var isEarlyEnd = false
    var settlesOffer = false
    /// Whether the dialer confirmed the stream with ACK, so that the listener receives it.
    var accepts = false
    var reply: Command?
    /// Cookie that arrived with a SYN; the reply repeats it.
    var cookie: UInt64?
    /// Error that fails the stream.
    var failure: AstraNetError?
    /// Whether the stream fails because this node holds too many unread bytes.
    var isOverfull = false
    /// Whether the stream is a pushed source that this node has not accepted.
    var isOffered = false
    /// Whether the server needs a decline if this node has given up the pushed source. The stream fails before its
    /// FIN1 and FIN2 are sent, so they do not inform the server.
    var sendsDecline = false
    /// Error that must close the link.
    var linkFailure: AstraNetError?
    /// Unsent bytes. They are released outside the lock because their memory may belong to a plugin.
    var dropped: ShortQueue<ByteBuffer>?

    mutating func take(_ action: StreamState.PeerEndAction, _ storage: inout MeshStream.Storage) {
        guard action != .doNothing else { return }
        isForgotten = action == .forget
        if storage.state.queued == 0 { dropped = storage.active?.state.takeOutbox() }
        queuesWake = storage.queueWake()
        queuesFlush = !isForgotten && storage.markDirty()
    }

    mutating func take(_ action: StreamState.ReceivedCreditAction, _ storage: inout MeshStream.Storage) {
        switch action {
        case .doNothing: break
        case .resumeSending: queuesFlush = storage.sendingIsDue()
        case .failStream(let error): failure = error
        }
    }
}
