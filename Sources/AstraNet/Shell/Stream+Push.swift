package import NIOCore

/// Pushed streams (`docs/protocol.md` §6): the server opens a stream for each source of a request towards the client, on the
/// link of the request's stream, the *master*.
extension Stream {
    /// What a stream has to do with pushed sources.
    enum PushState {
        /// A request of ours: what it granted, and the sources that came.
        case receiving(PushReceiver)
        /// A request of a peer: what may be pushed to it.
        case sending(PushSender)
        /// A source that was pushed to the peer and is not accepted yet, of this request.
        case offered(by: Stream, as: DialBlock.Source)
    }

    /// The client's side of a request that accepts pushed sources. It belongs to one stream and is used under that stream's lock,
    /// which is why the run-time check for overlapping accesses is off. On the heap, because it is changed in place.
    final class PushReceiver {
        let grant: DialBlock.Push
        @exclusivity(unchecked) var nextIndex: UInt32 = 0
        /// Sources that came and were not taken.
        @exclusivity(unchecked) var offered = ShortQueue<Stream>()
        /// Bytes that are reserved of the link's budget for unaccepted sources.
        let reserved: Int
        /// Acceptances that may still wait for other ops to leave with.
        @exclusivity(unchecked) var untold = 0

        init(grant: DialBlock.Push, reserved: Int) {
            self.grant = grant
            self.reserved = reserved
        }

        /// After this many acceptances the server is told at once, so that it need not pause.
        var tellsAfter: Int { max(1, Int(grant.maximumSources) / 4) }
    }

    /// The server's side of such a request.
    struct PushSender {
        var grant: DialBlock.Push
        var nextIndex: UInt32 = 0
        /// Sources that were pushed and for which the client has not answered: as many as it counts, or more.
        var unaccepted = 0
        /// Those of them that were given up here, so that an answer would not be heard.
        var abandoned = 0
    }

    // MARK: - The client

    /// Whether this is a request of ours that lets the server push its sources.
    public var expectsPush: Bool {
        withStorage { storage in
            if case .receiving = storage.active?.state.pushes { true } else { false }
        }
    }

    /// What comes next on a request's stream.
    package enum News: Sendable {
        case pushed(Stream)
        /// Bytes: the server announces sources by name.
        case bytes(ByteBuffer)
        case finished
        case failed(AstraNetError)
        case nothing
    }

    /// Returns what came on a request's stream, without waiting: a pushed source, which it accepts, or bytes, or the end, in
    /// this order.
    package func takeStreamNews() -> News {
        let (pushed, tellsNow) = withStorage { storage -> (Stream?, Bool) in
            guard case .receiving(let receiver) = storage.active?.state.pushes,
                let pushed = receiver.offered.popFirst()
            else { return (nil, false) }
            receiver.untold += 1
            let tellsNow = receiver.untold >= receiver.tellsAfter && storage.state.reading == .open
            if tellsNow { receiver.untold = 0 }
            return (pushed, tellsNow)
        }
        if let pushed {
            pushed.accept(tellsNow: tellsNow)
            return .pushed(pushed)
        }
        let received = takeReceived()
        switch received {
        case .bytes(let bytes): return .bytes(bytes)
        case .nothing: return .nothing
        case .finished, .failed:
            // Sources that came together with the end, after the look above, come before it.
            if withStorage({ $0.hasOffered }) { return takeStreamNews() }
            guard case .failed(let error) = received else { return .finished }
            return .failed(error)
        }
    }

    /// As ``takeStreamNews()``, and waits while there is nothing.
    package nonisolated(nonsending) func nextStreamNews(deadline: ContinuousClock.Instant?) async throws -> News {
        let news = takeStreamNews()
        guard case .nothing = news else { return news }
        return try await waitForNews(deadline: deadline)
    }

    /// Not inlined: what a wait allocates is not needed where something has come.
    @inline(never)
    private nonisolated(nonsending) func waitForNews(deadline: ContinuousClock.Instant?) async throws -> News {
        while true {
            // The server may wait for these before it pushes more.
            tellAcceptances()
            try await wait(for: .news, deadline: deadline) { storage in
                storage.isReady(.news) ? .success(()) : nil
            } timeoutMessage: {
                "nothing came from \(self.remoteAddress) in time"
            }
            let news = takeStreamNews()
            guard case .nothing = news else { return news }
        }
    }

    private func tellAcceptances() {
        let isUntold = withStorage { storage -> Bool in
            guard case .receiving(let receiver) = storage.active?.state.pushes, receiver.untold > 0 else {
                return false
            }
            receiver.untold = 0
            return true
        }
        if isUntold { link.sendControl { _ in } }
    }

    /// The consumer takes the source.
    private func accept(tellsNow: Bool) {
        guard withStorage({ $0.state.accept() }) else { return }
        let syn = OpHeader(.syn, to: remoteAddress, from: localAddress)
        if tellsNow {
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

    /// Everything has come of a pushed source that is not wanted, but the server keeps it until it hears from this end.
    func tellDecline() {
        link.sendControlPatiently { ops in
            ops.writeOp(OpHeader(.fin1, to: self.remoteAddress, from: self.localAddress))
            ops.writeOp(OpHeader(.fin2, to: self.remoteAddress, from: self.localAddress))
        }
    }

    /// No more is taken of a request whose server has ended it: what was reserved for its sources is free again.
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

    /// The dialer grants pushed sources of the request that this stream is. Before the stream is known to its link.
    func grantPush(_ grant: DialBlock.Push, reserved: Int) {
        withStorage { storage in
            storage.activate().state.pushes = .receiving(PushReceiver(grant: grant, reserved: reserved))
        }
    }

    /// Deadline and tags that our DIAL carries. Before the stream is known to its link.
    func setContext(_ block: DialBlock) {
        withStorage { $0.activate().state.dialContext = DialContext(block) }
    }

    // MARK: - The server

    /// Keeps the block of a DIAL, which says what may be pushed, until the stream is accepted.
    ///
    /// - Parameter mayPush: whether the dialer is known to receive at its address.
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

    /// The dialer has proved that it receives at its address.
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

    /// What came of ``pushSource()``.
    package enum Push: Sendable {
        case opened(Stream)
        /// As many sources as the client granted wait to be accepted, or the link has as many streams as it may have. The
        /// delegate of the request's stream is called when a source is accepted, or when the link has a place.
        case noRoom
        /// The client does not accept pushed sources.
        case notGranted
        /// The request has ended, or all sources that the client may have at a time were given up here before it took any.
        case ended
    }

    /// How many bytes a pushed source may send before the client accepts it; `nil` if the client accepts no pushed sources.
    public var pushWindow: Int? {
        withStorage { storage in
            guard case .sending(let sender) = storage.active?.state.pushes else { return nil }
            return Int(sender.grant.window)
        }
    }

    /// Opens a pushed source of this request. Only one thread at a time may push sources of one request.
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

    /// The client has accepted or given up a pushed source of this request, which may push another one now; or this end has given
    /// it up, and the client still counts it.
    ///
    /// - Returns: whether the caller must put this stream on the list of those to wake.
    func settlePush(isAnswered: Bool) -> Bool {
        withStorage { storage -> Bool in
            storage.settlePush(isAnswered: isAnswered)
            return storage.active?.state.delegate != nil && storage.queueWake()
        }
    }

    /// Returns ``isPeerGone``, ``isOffered``, and whether the client has accepted this pushed stream, at one moment.
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

private struct NoPush: Error {
    let push: Stream.Push
}

extension Stream.Storage {
    /// Whether a pushed source waits to be taken.
    var hasOffered: Bool {
        guard case .receiving(let receiver) = active?.state.pushes else { return false }
        return !receiver.offered.isEmpty
    }

    /// Takes out the pushed sources that were not taken, and the bytes that are reserved for such: all of them are given up, and
    /// no more are taken. `nil` if this is no request of ours.
    mutating func takeReceiver() -> Stream.PushReceiver? {
        guard let active, case .receiving(let receiver) = active.state.pushes else { return nil }
        active.state.pushes = nil
        deactivateIfIdle()
        return receiver
    }

    /// Whether this is a request to which sources were pushed, and its end is due.
    var endsPushing: Bool {
        guard case .ending = state.writing, case .sending = active?.state.pushes else { return false }
        return true
    }

    /// Takes out the request of a pushed source that the client has not accepted; `nil` if this is none.
    mutating func takeMaster() -> Stream? {
        guard let active, case .offered(let master, _) = active.state.pushes else { return nil }
        active.state.pushes = nil
        deactivateIfIdle()
        return master
    }

    /// How many sources were pushed; `nil` if none were.
    var pushedCount: UInt32? {
        guard case .sending(let sender) = active?.state.pushes, sender.nextIndex > 0 else { return nil }
        return sender.nextIndex
    }

    /// Whether sources of this request have not come, of which its server has pushed `count`.
    func lacksSources(of count: UInt32) -> Bool {
        guard state.reading == .open, case .receiving(let receiver) = active?.state.pushes else { return false }
        return receiver.nextIndex != count
    }

    /// The block of our DIAL; `nil` for none.
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

    /// What to do about the DIAL of a pushed source.
    enum PushAction {
        /// Take it; it may send this many bytes before it is accepted.
        case take(window: UInt32)
        /// Answer ERR.
        case refuse(String)
        /// Answer ERR, and fail the request: its server broke the rules.
        case failRequest(String)
    }

    mutating func receivePush(_ source: DialBlock.Source, isFresh: Bool) -> PushAction {
        guard case .receiving(let receiver) = active?.state.pushes, receiver.grant.nonce == source.nonce,
            state.reading == .open
        else { return .refuse("no request waits for this source") }
        guard isFresh, source.index == receiver.nextIndex else {
            return .refuse("the source is not the next one of its request")
        }
        // A source that failed counts until it is taken, at both ends.
        guard receiver.offered.count < Int(receiver.grant.maximumSources) else {
            return .failRequest("the server pushed more sources than it was granted")
        }
        receiver.nextIndex &+= 1
        return .take(window: receiver.grant.window)
    }

    /// Adds a pushed source for the consumer; whether the caller must put this stream on the list of those to wake. `nil` if the
    /// request was ended by another thread meanwhile: then nobody takes the source.
    mutating func offer(_ stream: Stream) -> Bool? {
        guard state.reading == .open, case .receiving(let receiver) = active?.state.pushes else { return nil }
        receiver.offered.append(stream)
        return queueWake()
    }

    fileprivate mutating func beginPush() -> Result<(DialBlock.Push, index: UInt32), NoPush> {
        guard state.phase == .open, state.writing == .open else { return .failure(NoPush(push: .ended)) }
        guard let active, case .sending(var sender) = active.state.pushes else {
            return .failure(NoPush(push: .notGranted))
        }
        guard sender.unaccepted < Int(sender.grant.maximumSources) else {
            return .failure(NoPush(push: sender.abandoned < sender.unaccepted ? .noRoom : .ended))
        }
        let index = sender.nextIndex
        sender.nextIndex &+= 1
        sender.unaccepted += 1
        active.state.pushes = .sending(sender)
        return .success((sender.grant, index))
    }

    /// The source was not pushed after all.
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
