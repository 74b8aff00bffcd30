package import NIOCore

/// Pushed sources (`docs/protocol.md` §6): the server opens a stream to the client for each source of a request.
///
/// The stream of a source is on the same link as the stream of the request, the *master stream*.
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

    // MARK: - The client

    /// Whether this is a request of this node that allows the server to push sources.
    public var expectsPush: Bool {
        withStorage { storage in
            if case .receiving = storage.active?.state.pushes { true } else { false }
        }
    }

    /// The result of ``takeMasterEvent()`` on a master stream.
    package enum MasterEvent: Sendable {
        case pushed(MeshStream)
        /// Received bytes. The server announces named sources with them.
        case bytes(ByteBuffer)
        case finished
        case failed(AstraNetError)
        case nothing
    }

    /// Returns the next event of a master stream without waiting: a pushed source, else bytes, else the end. A returned
    /// source is accepted.
    package func takeMasterEvent() -> MasterEvent {
        let (pushed, flushesNow) = withStorage { storage -> (MeshStream?, Bool) in
            guard case .receiving(let receiver) = storage.active?.state.pushes,
                let pushed = receiver.offered.popFirst()
            else { return (nil, false) }
            receiver.unflushedAcceptances += 1
            let flushesNow =
                receiver.unflushedAcceptances >= receiver.flushThreshold && storage.state.reading == .open
            if flushesNow { receiver.unflushedAcceptances = 0 }
            return (pushed, flushesNow)
        }
        if let pushed {
            pushed.accept(flushesNow: flushesNow)
            return .pushed(pushed)
        }
        let received = takeReceived()
        switch received {
        case .bytes(let bytes): return .bytes(bytes)
        case .nothing: return .nothing
        case .finished, .failed:
            // Sources may have arrived together with the end after the check above. They come before the end.
            if withStorage({ $0.hasOffered }) { return takeMasterEvent() }
            guard case .failed(let error) = received else { return .finished }
            return .failed(error)
        }
    }

    /// Returns the next event of a master stream, and waits for one if necessary. A returned source is accepted.
    ///
    /// - Parameter deadline: the time at which the wait ends with an error; `nil` for none.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`; `CancellationError`.
    package nonisolated(nonsending) func nextMasterEvent(deadline: ContinuousClock.Instant?) async throws -> MasterEvent
    {
        let news = takeMasterEvent()
        guard case .nothing = news else { return news }
        return try await waitForMasterEvent(deadline: deadline)
    }

    /// Waits for the next event. It is not inlined, so that calls that do not wait save its allocations.
    @inline(never)
    private nonisolated(nonsending) func waitForMasterEvent(deadline: ContinuousClock.Instant?) async throws
        -> MasterEvent
    {
        while true {
            // The server may wait for the acceptances before it pushes more sources.
            flushAcceptances()
            try await wait(for: .news, deadline: deadline) { storage in
                storage.isReady(.news) ? .success(()) : nil
            } timeoutMessage: {
                "neither a source nor bytes arrived from \(self.remoteAddress) in time"
            }
            let news = takeMasterEvent()
            guard case .nothing = news else { return news }
        }
    }

    private func flushAcceptances() {
        let needsFlush = withStorage { storage -> Bool in
            guard case .receiving(let receiver) = storage.active?.state.pushes, receiver.unflushedAcceptances > 0
            else { return false }
            receiver.unflushedAcceptances = 0
            return true
        }
        if needsFlush { link.sendControl { _ in } }
    }

    /// Accepts a pushed source (SYN) because the consumer takes it.
    private func accept(flushesNow: Bool) {
        guard withStorage({ $0.state.accept() }) else { return }
        let syn = OpHeader(.syn, to: remoteAddress, from: localAddress)
        if flushesNow {
            link.sendControl { $0.writeOp(syn) }
        } else {
            link.sendControlDelayed { $0.writeOp(syn) }
        }
    }

    /// Declines a pushed source that the consumer has not taken.
    func decline() {
        close()
        let endedBefore = withStorage { storage -> Bool in
            guard storage.state.phase == .ended, case .over = storage.state.writing else { return false }
            return storage.state.offer == .received
        }
        if endedBefore { sendDecline() }
    }

    /// Sends FIN1 and FIN2 for a declined source that has already ended. The server keeps such a source until the
    /// client answers.
    func sendDecline() {
        link.sendControlDelayed { ops in
            ops.writeOp(OpHeader(.fin1, to: self.remoteAddress, from: self.localAddress))
            ops.writeOp(OpHeader(.fin2, to: self.remoteAddress, from: self.localAddress))
        }
    }

    /// Releases the bytes that were reserved for pushed sources. Call it after the server has ended the request. Does
    /// nothing while received sources are not taken.
    public func releaseGrant() {
        let reserved = withStorage { storage -> Int in
            guard let active = storage.active, case .receiving(let receiver) = active.state.pushes,
                receiver.offered.isEmpty
            else { return 0 }
            active.state.pushes = nil
            storage.deactivateIfIdle()
            return receiver.reserved
        }
        link.pushGrants.give(reserved)
    }

    /// Allows the server to push sources of this request. The caller must do so before ``Link/open(_:)``.
    func grantPush(_ grant: DialBlock.Push, reserved: Int) {
        withStorage { storage in
            storage.activate().state.pushes = .receiving(PushReceiver(grant: grant, reserved: reserved))
        }
    }

    /// Sets the deadline and tags that this node's DIAL carries. The caller must do so before ``Link/open(_:)``.
    func setContext(_ block: DialBlock) {
        withStorage { $0.activate().state.dialContext = DialContext(block) }
    }

    // MARK: - The server

    /// Stores the block of a received DIAL until ``takeDial()``.
    ///
    /// - Parameter mayPush: whether this node may push sources at once, because the dialer is known to receive at its
    ///   address.
    func keep(_ block: DialBlock, mayPush: Bool) {
        let deadline = block.deadlineMilliseconds.map { now + .milliseconds(Int64($0)) }
        withStorage { storage in
            let active = storage.activate()
            active.state.dialContext = DialContext(block, deadline: deadline)
            if mayPush, let grant = block.push, grant.maximumSources > 0 {
                active.state.pushes = .sending(PushSender(grant: grant))
            }
        }
    }

    /// Allows this node to push sources because the dialer has proved with a cookie that it receives at its address.
    func mayPush() {
        withStorage { storage in
            storage.state.peerUnderstandsPush()
            guard let active = storage.active, let grant = active.state.dialContext?.block.push,
                grant.maximumSources > 0
            else { return }
            active.state.pushes = .sending(PushSender(grant: grant))
        }
    }

    /// Returns the block of the peer's DIAL, and the deadline of the request; `nil` after the first call.
    package func takeDial() -> (block: DialBlock, deadline: ContinuousClock.Instant?)? {
        withStorage { storage in
            guard let active = storage.active, let context = active.state.dialContext else { return nil }
            active.state.dialContext = nil
            return (context.block, context.deadline)
        }
    }

    /// The result of ``pushSource()``.
    package enum Push: Sendable {
        case opened(MeshStream)
        /// The number of unaccepted sources has reached the client's grant, or the link is at its stream limit. The
        /// delegate of the master stream is called when a source is accepted or a stream slot is free.
        case grantExhausted
        /// The client does not accept pushed sources.
        case notGranted
        /// The request has ended, or this node gave up all sources that the grant allows before the client took one.
        case ended
    }

    /// Maximum number of bytes that a pushed source may send before the client accepts it; `nil` if the client accepts
    /// no pushed sources.
    public var pushWindow: Int? {
        withStorage { storage in
            guard case .sending(let sender) = storage.active?.state.pushes else { return nil }
            return Int(sender.grant.window)
        }
    }

    /// Opens the stream of a pushed source of this request. Only one thread at a time may push sources of one request.
    package func pushSource() -> Push {
        let index: UInt32
        let grant: DialBlock.Push
        switch withStorage({ $0.beginPush() }) {
        case .failure(let reason):
            return reason.push
        case .success(let begun): (grant, index) = begun
        }
        guard link.reserveStreamSlot(orCall: self) else {
            withStorage { $0.cancelPush() }
            return .grantExhausted
        }
        let stream = MeshStream(
            state: .pushing(window: grant.window), localPort: link.node.takePort(), remote: remoteAddress, link: link)
        stream.withStorage { storage in
            storage.activate().state.pushes = .offered(
                by: self, as: DialBlock.Source(nonce: grant.nonce, streamPort: localPort, index: index))
        }
        do throws(AstraNetError) {
            try link.open(stream)
        } catch {
            link.releaseStreamSlot()
            return .ended
        }
        return .opened(stream)
    }

    /// Settles a pushed source of this request.
    ///
    /// - Parameter isAnswered: whether the client accepted or gave up the source, so that another one may be pushed.
    ///   `false` if this node gave it up: then the client still counts it.
    /// - Returns: whether the caller must queue a wake of this stream.
    func settlePush(isAnswered: Bool) -> Bool {
        withStorage { storage -> Bool in
            storage.settlePush(isAnswered: isAnswered)
            return storage.active?.state.delegate != nil && storage.queueWake()
        }
    }

    /// Consistent snapshot of ``isPeerClosed``, ``isUnaccepted`` and whether the client has accepted this pushed source.
    package var pushProgress: (isPeerClosed: Bool, isUnaccepted: Bool, wasAccepted: Bool) {
        withStorage { storage in
            (
                storage.state.isPeerClosed && !storage.state.isClosedHere, storage.state.offer == .made,
                storage.state.wasAccepted
            )
        }
    }

    /// Whether the client has not accepted this pushed source yet.
    public var isUnaccepted: Bool { withStorage { $0.state.offer == .made } }

}

private struct PushFailure: Error {
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
    mutating func offer(_ stream: MeshStream) -> Bool? {
        guard state.reading == .open, case .receiving(let receiver) = active?.state.pushes else { return nil }
        receiver.offered.append(stream)
        return queueWake()
    }

    fileprivate mutating func beginPush() -> Result<(DialBlock.Push, index: UInt32), PushFailure> {
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
    fileprivate mutating func cancelPush() {
        guard let active, case .sending(var sender) = active.state.pushes else { return }
        sender.unaccepted -= 1
        sender.nextIndex &-= 1
        active.state.pushes = .sending(sender)
    }

    fileprivate mutating func settlePush(isAnswered: Bool) {
        guard let active, case .sending(var sender) = active.state.pushes else { return }
        if isAnswered { sender.unaccepted -= 1 } else { sender.abandoned += 1 }
        active.state.pushes = .sending(sender)
    }
}
