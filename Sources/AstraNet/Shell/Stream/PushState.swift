extension MeshStream {
    /// The role of a stream in a request with pushed sources.
    enum PushState {
        /// Master stream at the client, with its grant and the received sources.
        case receiving(PushReceiver)
        /// Master stream at the server, with the client's grant.
        case sending(PushSender)
        /// Pushed source at the server that the client has not accepted yet.
        case offered(by: MeshStream, as: DialBlock.Source)
    }

    /// The client's state of a request that accepts pushed sources.
    ///
    /// It belongs to one stream and is used only under that stream's lock, so the run-time check for overlapping
    /// accesses is off. It is on the heap because it is changed in place.
    final class PushReceiver {
        let grant: DialBlock.Push
        @exclusivity(unchecked) var nextIndex: UInt32 = 0
        /// Received sources that the consumer has not taken.
        @exclusivity(unchecked) var offered = ShortQueue<MeshStream>()
        /// Number of bytes that are reserved in the link's grant budget for unaccepted sources.
        let reserved: Int
        /// Number of acceptances (SYN) since the last one that was flushed at once.
        @exclusivity(unchecked) var unflushedAcceptances = 0

        init(grant: DialBlock.Push, reserved: Int) {
            self.grant = grant
            self.reserved = reserved
        }

        /// Number of acceptances after which they are flushed at once, so that the server can continue to push.
        var flushThreshold: Int { max(1, Int(grant.maximumSources) / 4) }
    }

    /// The server's state of a request that accepts pushed sources.
    struct PushSender {
        var grant: DialBlock.Push
        var nextIndex: UInt32 = 0
        /// Number of pushed sources without an answer by the client. It is never less than the client's own count.
        var unaccepted = 0
        /// Number of those sources that this node gave up. Their streams are removed, so an answer would not be
        /// received.
        var abandoned = 0
    }
}

/// The reason why a source cannot be pushed.
struct PushFailure: Error {
    let push: MeshStream.Push
}

extension MeshStream.Storage {
    /// Whether a received pushed source waits for the consumer.
    var hasOffered: Bool {
        guard case .receiving(let receiver) = active?.state.pushes else { return false }
        return !receiver.offered.isEmpty
    }

    /// Removes and returns the client's push state, so that the caller can decline its sources and release its reserved
    /// bytes. Later sources are refused. `nil` if this is not a request of this node that accepts pushed sources.
    mutating func takeReceiver() -> MeshStream.PushReceiver? {
        guard let active, case .receiving(let receiver) = active.state.pushes else { return nil }
        active.state.pushes = nil
        deactivateIfIdle()
        return receiver
    }

    /// Whether this is a master stream at the server, may have pushed sources, and its end is to be sent.
    var endsPushing: Bool {
        guard case .ending = state.writing, case .sending = active?.state.pushes else { return false }
        return true
    }

    /// Removes and returns the master stream of a pushed source that the client has not accepted; `nil` for other
    /// streams.
    mutating func takeMaster() -> MeshStream? {
        guard let active, case .offered(let master, _) = active.state.pushes else { return nil }
        active.state.pushes = nil
        deactivateIfIdle()
        return master
    }

    /// Number of pushed sources; `nil` if there were none.
    var pushedCount: UInt32? {
        guard case .sending(let sender) = active?.state.pushes, sender.nextIndex > 0 else { return nil }
        return sender.nextIndex
    }

    /// Returns whether this request has not received exactly the `count` sources that the server pushed.
    func lacksSources(of count: UInt32) -> Bool {
        guard state.reading == .open, case .receiving(let receiver) = active?.state.pushes else { return false }
        return receiver.nextIndex != count
    }

    /// Block of this node's DIAL; `nil` for none.
    var dialBlock: DialBlock? {
        guard let state = active?.state else { return nil }
        switch state.pushes {
        case .offered(_, let source): return DialBlock(source: source)
        case .receiving(let receiver):
            var block = state.dialContext?.block ?? DialBlock()
            block.push = receiver.grant
            return block
        case .sending, nil: return state.dialContext?.block
        }
    }

    /// The action for a DIAL of a pushed source.
    enum PushAction {
        /// Open the stream. The source may send this many bytes before it is accepted.
        case take(window: UInt32)
        /// Answer with ERR.
        case refuse(String)
        /// Answer with ERR and fail the request, because its server violated the protocol.
        case failRequest(String)
    }

    /// Checks the DIAL of a pushed source against the grant (`docs/protocol.md` §6.4).
    mutating func receivePush(_ source: DialBlock.Source, isFresh: Bool) -> PushAction {
        guard case .receiving(let receiver) = active?.state.pushes, receiver.grant.nonce == source.nonce,
            state.reading == .open
        else { return .refuse("no request waits for this source") }
        guard isFresh, source.index == receiver.nextIndex else {
            return .refuse("the source is not the next one of its request")
        }
        // Both nodes count a failed source until the consumer takes it.
        guard receiver.offered.count < Int(receiver.grant.maximumSources) else {
            return .failRequest("the server pushed more sources than it was granted")
        }
        receiver.nextIndex &+= 1
        return .take(window: receiver.grant.window)
    }

    /// Adds a pushed source for the consumer.
    ///
    /// - Returns: whether the caller must queue a wake of this stream; `nil` if another thread has ended the request,
    ///   so that the caller must decline the source.
    package mutating func offer(_ stream: MeshStream) -> Bool? {
        guard state.reading == .open, case .receiving(let receiver) = active?.state.pushes else { return nil }
        receiver.offered.append(stream)
        return queueWake()
    }

    mutating func beginPush() -> Result<(DialBlock.Push, index: UInt32), PushFailure> {
        guard state.phase == .open, state.writing == .open else { return .failure(PushFailure(push: .ended)) }
        guard let active, case .sending(var sender) = active.state.pushes else {
            return .failure(PushFailure(push: .notGranted))
        }
        guard sender.unaccepted < Int(sender.grant.maximumSources) else {
            return .failure(PushFailure(push: sender.abandoned < sender.unaccepted ? .grantExhausted : .ended))
        }
        let index = sender.nextIndex
        sender.nextIndex &+= 1
        sender.unaccepted += 1
        active.state.pushes = .sending(sender)
        return .success((sender.grant, index))
    }

    /// Undoes ``beginPush()`` because the source could not be pushed.
    mutating func cancelPush() {
        guard let active, case .sending(var sender) = active.state.pushes else { return }
        sender.unaccepted -= 1
        sender.nextIndex &-= 1
        active.state.pushes = .sending(sender)
    }

    mutating func settlePush(isAnswered: Bool) {
        guard let active, case .sending(var sender) = active.state.pushes else { return }
        if isAnswered { sender.unaccepted -= 1 } else { sender.abandoned += 1 }
        active.state.pushes = .sending(sender)
    }
}
