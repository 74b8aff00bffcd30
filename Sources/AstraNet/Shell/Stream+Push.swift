package import NIOCore

/// Pushed streams (`docs/protocol.md` §6). The server opens a stream to the client for each source of a request, on the
/// link of the request's stream. That stream is called the *master* stream.
extension Stream {
    /// The part that a stream has in a request with pushed sources.
    enum PushState {
        /// The master stream of a request of this node: its grant and the received sources.
        case receiving(PushReceiver)
        /// The master stream of a request of a peer: its grant and the pushed sources.
        case sending(PushSender)
        /// A source that this node pushed to a client, which has not accepted it yet. `by` is its master stream.
        case offered(by: Stream, as: DialBlock.Source)
    }

    /// The client's state of a request that accepts pushed sources. It belongs to one stream and is accessed under that
    /// stream's lock, so the exclusivity checks at run time are off. It is a class so that it can be changed in place.
    final class PushReceiver {
        let grant: DialBlock.Push
        @exclusivity(unchecked) var nextIndex: UInt32 = 0
        /// Received sources that the consumer has not taken.
        @exclusivity(unchecked) var offered = ShortQueue<Stream>()
        /// The bytes that are reserved for unaccepted sources in the link's budget.
        let reserved: Int
        /// The number of acceptances whose SYN may wait to be sent together with later ops.
        @exclusivity(unchecked) var untold = 0

        init(grant: DialBlock.Push, reserved: Int) {
            self.grant = grant
            self.reserved = reserved
        }

        /// After this number of acceptances the SYNs are sent at once, so that the server need not pause.
        var tellsAfter: Int { max(1, Int(grant.maximumSources) / 4) }
    }

    /// The server's state of a request with pushed sources.
    struct PushSender {
        var grant: DialBlock.Push
        var nextIndex: UInt32 = 0
        /// The number of pushed sources that the client has not answered. It is never smaller than the client's own
        /// count.
        var unaccepted = 0
        /// The number of those sources that this node gave up, so that it ignores the client's answer.
        var abandoned = 0
    }

    // MARK: - The client

    /// Whether this is the master stream of a request of this node that lets the server push sources.
    public var expectsPush: Bool {
        withStorage { storage in
            if case .receiving = storage.active?.state.pushes { true } else { false }
        }
    }

    /// An event of a master stream, as the client sees it.
    package enum News: Sendable {
        case pushed(Stream)
        /// Bytes in which the server announces named sources.
        case bytes(ByteBuffer)
        case finished
        case failed(AstraNetError)
        case nothing
    }

    /// Takes the next event of a master stream without waiting. Pushed sources come first, then bytes, then the end.
    /// Accepts the pushed source that it returns.
    package func takeStreamNews() -> News {
        let (pushed, flushesNow) = withStorage { storage -> (Stream?, Bool) in
            guard case .receiving(let receiver) = storage.active?.state.pushes,
                let pushed = receiver.offered.popFirst()
            else { return (nil, false) }
            receiver.untold += 1
            let flushesNow = receiver.untold >= receiver.tellsAfter && storage.state.reading == .open
            if flushesNow { receiver.untold = 0 }
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
            // A source may have arrived together with the end, after the check above. It comes before the end.
            if withStorage({ $0.hasOffered }) { return takeStreamNews() }
            guard case .failed(let error) = received else { return .finished }
            return .failed(error)
        }
    }

    /// Takes the next event as ``takeStreamNews()`` does, and waits if there is none.
    package nonisolated(nonsending) func nextStreamNews(deadline: ContinuousClock.Instant?) async throws -> News {
        let news = takeStreamNews()
        guard case .nothing = news else { return news }
        return try await waitForNews(deadline: deadline)
    }

    /// Not inlined, because only the waiting path needs its allocations.
    @inline(never)
    private nonisolated(nonsending) func waitForNews(deadline: ContinuousClock.Instant?) async throws -> News {
        while true {
            // The server may be waiting for these acceptances before it pushes more sources.
            flushAcceptances()
            try await wait(for: .news, deadline: deadline) { storage in
                storage.isReady(.news) ? .success(()) : nil
            } timeoutMessage: {
                "received nothing from \(self.remoteAddress)"
            }
            let news = takeStreamNews()
            guard case .nothing = news else { return news }
        }
    }

    private func flushAcceptances() {
        let isPending = withStorage { storage -> Bool in
            guard case .receiving(let receiver) = storage.active?.state.pushes, receiver.untold > 0 else {
                return false
            }
            receiver.untold = 0
            return true
        }
        if isPending { link.sendControl { _ in } }
    }

    /// Accepts this pushed source, because the consumer takes it. Sends SYN.
    private func accept(flushesNow: Bool) {
        guard withStorage({ $0.state.accept() }) else { return }
        let syn = OpHeader(.syn, to: remoteAddress, from: localAddress)
        if flushesNow {
            link.sendControl { $0.writeOp(syn) }
        } else {
            link.sendControlPatiently { $0.writeOp(syn) }
        }
    }

    /// Gives up a pushed source that the consumer has not taken.
    func decline() {
        close()
        let endedBefore = withStorage { storage -> Bool in
            guard storage.state.phase == .ended, case .over = storage.state.writing else { return false }
            return true
        }
        if endedBefore { tellDecline() }
    }

    /// Sends FIN1 and FIN2 for an unwanted pushed source that has arrived in full. The server keeps the source until
    /// the client answers.
    func tellDecline() {
        link.sendControlPatiently { ops in
            ops.writeOp(OpHeader(.fin1, to: self.remoteAddress, from: self.localAddress))
            ops.writeOp(OpHeader(.fin2, to: self.remoteAddress, from: self.localAddress))
        }
    }

    /// Releases the memory that is reserved for pushed sources, if none is left to take. Called when the server has
    /// ended the request.
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

    /// Makes this the master stream of a request that accepts pushed sources. Called before the link knows the stream.
    func grantPush(_ grant: DialBlock.Push, reserved: Int) {
        withStorage { storage in
            storage.activate().state.pushes = .receiving(PushReceiver(grant: grant, reserved: reserved))
        }
    }

    /// Sets the dial block with deadline and tags for this node's DIAL. Called before the link knows the stream.
    func setContext(_ block: DialBlock) {
        withStorage { $0.activate().state.dialContext = DialContext(block) }
    }

    // MARK: - The server

    /// Keeps the block of the peer's DIAL until the stream is accepted. The block may grant pushed sources.
    ///
    /// - Parameter mayPush: whether the dialer is proved to receive at its address.
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

    /// Allows pushed sources, because the dialer has proved that it receives at its address.
    func mayPush() {
        withStorage { storage in
            storage.state.peerUnderstandsPush()
            guard let active = storage.active, let grant = active.state.dialContext?.block.push,
                grant.maximumSources > 0
            else { return }
            active.state.pushes = .sending(PushSender(grant: grant))
        }
    }

    /// Returns the block of the peer's DIAL and the deadline of the request on the first call, then `nil`.
    package func takeDial() -> (block: DialBlock, deadline: ContinuousClock.Instant?)? {
        withStorage { storage in
            guard let active = storage.active, let context = active.state.dialContext else { return nil }
            active.state.dialContext = nil
            return (context.block, context.deadline)
        }
    }

    /// The result of ``pushSource()``.
    package enum Push: Sendable {
        case opened(Stream)
        /// The granted number of sources is unaccepted, or the link has its maximum number of streams. The delegate of
        /// the master stream is called when a source is accepted or the link has a place for a stream.
        case noRoom
        /// The client does not accept pushed sources.
        case notGranted
        /// The request has ended, or this node has given up all sources that the client may have at a time.
        case ended
    }

    /// The maximum number of unacknowledged bytes of a pushed source before the client accepts it; `nil` if the client
    /// does not accept pushed sources.
    public var pushWindow: Int? {
        withStorage { storage in
            guard case .sending(let sender) = storage.active?.state.pushes else { return nil }
            return Int(sender.grant.window)
        }
    }

    /// Opens a pushed source of this request. Only one thread may do so at a time for one request.
    package func pushSource() -> Push {
        let index: UInt32
        let grant: DialBlock.Push
        switch withStorage({ $0.beginPush() }) {
        case .failure(let reason):
            return reason.push
        case .success(let begun): (grant, index) = begun
        }
        guard link.takeStreamPlace(orCall: self) else {
            withStorage { $0.cancelPush() }
            return .noRoom
        }
        let stream = Stream(
            state: .pushing(window: grant.window), localPort: link.node.takePort(), remote: remoteAddress, link: link)
        stream.withStorage { storage in
            storage.activate().state.pushes = .offered(
                by: self, as: DialBlock.Source(nonce: grant.nonce, streamPort: localPort, index: index))
        }
        do throws(AstraNetError) {
            try link.open(stream)
        } catch {
            link.giveStreamPlace()
            return .ended
        }
        return .opened(stream)
    }

    /// Records that the client has accepted or given up a pushed source of this request, so that another one may be
    /// pushed; or that this node has given it up while the client still counts it.
    ///
    /// - Returns: whether the caller must put this stream on the list of streams to wake.
    func settlePush(isAnswered: Bool) -> Bool {
        withStorage { storage -> Bool in
            storage.settlePush(isAnswered: isAnswered)
            return storage.active?.state.delegate != nil && storage.queueWake()
        }
    }

    /// Returns ``isPeerGone``, ``isOffered``, and whether the client has accepted this pushed stream, in one atomic
    /// read.
    package var offerProgress: (isPeerGone: Bool, isOffered: Bool, wasTaken: Bool) {
        withStorage { storage in
            (
                storage.state.isPeerGone && !storage.state.isClosedHere, storage.state.offer == .made,
                storage.state.wasAccepted
            )
        }
    }

    /// Whether the client has not accepted this pushed source yet.
    public var isOffered: Bool { withStorage { $0.state.offer == .made } }

}

private struct PushFailure: Error {
    let push: Stream.Push
}

extension Stream.Storage {
    /// Whether a pushed source waits for the consumer.
    var hasOffered: Bool {
        guard case .receiving(let receiver) = active?.state.pushes else { return false }
        return !receiver.offered.isEmpty
    }

    /// Removes the client's push state, with the sources that the consumer has not taken and the reserved bytes. No
    /// more sources are received afterwards. Returns `nil` if this is not a request of this node that accepts pushed
    /// sources.
    mutating func takeReceiver() -> Stream.PushReceiver? {
        guard let active, case .receiving(let receiver) = active.state.pushes else { return nil }
        active.state.pushes = nil
        deactivateIfIdle()
        return receiver
    }

    /// Whether this is a master stream with pushed sources whose end is to be sent.
    var endsPushing: Bool {
        guard case .ending = state.writing, case .sending = active?.state.pushes else { return false }
        return true
    }

    /// Removes and returns the master stream of a pushed source that the client has not accepted; `nil` if this is not
    /// such a source.
    mutating func takeMaster() -> Stream? {
        guard let active, case .offered(let master, _) = active.state.pushes else { return nil }
        active.state.pushes = nil
        deactivateIfIdle()
        return master
    }

    /// The number of pushed sources; `nil` if there are none.
    var pushedCount: UInt32? {
        guard case .sending(let sender) = active?.state.pushes, sender.nextIndex > 0 else { return nil }
        return sender.nextIndex
    }

    /// Whether the number of received sources differs from `count`, the number that the server reports.
    func lacksSources(of count: UInt32) -> Bool {
        guard state.reading == .open, case .receiving(let receiver) = active?.state.pushes else { return false }
        return receiver.nextIndex != count
    }

    /// The block of this node's DIAL; `nil` for none.
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

    /// The reaction to the DIAL of a pushed source.
    enum PushAction {
        /// Take the source. `window` is the maximum number of unacknowledged bytes before it is accepted.
        case take(window: UInt32)
        /// Answer ERR with this text.
        case refuse(String)
        /// Answer ERR, and fail the request because the server broke its grant.
        case failRequest(String)
    }

    mutating func receivePush(_ source: DialBlock.Source, isFresh: Bool) -> PushAction {
        guard case .receiving(let receiver) = active?.state.pushes, receiver.grant.nonce == source.nonce,
            state.reading == .open
        else { return .refuse("no request waits for this source") }
        guard isFresh, source.index == receiver.nextIndex else {
            return .refuse("the source is not the next one of its request")
        }
        // Both ends count a failed source until the consumer takes it.
        guard receiver.offered.count < Int(receiver.grant.maximumSources) else {
            return .failRequest("the server pushed more sources than it was granted")
        }
        receiver.nextIndex &+= 1
        return .take(window: receiver.grant.window)
    }

    /// Adds a pushed source for the consumer.
    ///
    /// - Returns: whether the caller must put this stream on the list of streams to wake; `nil` if another thread has
    ///   ended the request, so that no consumer takes the source.
    mutating func offer(_ stream: Stream) -> Bool? {
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
            return .failure(PushFailure(push: sender.abandoned < sender.unaccepted ? .noRoom : .ended))
        }
        let index = sender.nextIndex
        sender.nextIndex &+= 1
        sender.unaccepted += 1
        active.state.pushes = .sending(sender)
        return .success((sender.grant, index))
    }

    /// Undoes ``beginPush()``, because the source was not pushed.
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
