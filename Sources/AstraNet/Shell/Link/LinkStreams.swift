internal import DequeModule
internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The streams of a link: answers dials, passes other ops to the state machine of their stream, performs its actions, and wakes the
/// tasks and delegates that wait for them. Belongs to the event loop of its link.
///
/// Its variables are exempt from the run-time check for overlapping accesses (see ``LinkHandler``). No accesses overlap: all are
/// made on the event loop, and each ends before code of another type is called. ``StreamTable`` calls nothing but
/// `Stream.withStorage`, whose bodies may not call out, and a waiter or a delegate is called after it was taken out of ``toWake``.
final class LinkStreams {
    private let node: NodeCore
    private let link: Link
    @exclusivity(unchecked) var log: Logger
    @exclusivity(unchecked) private var table = StreamTable()
    /// Streams whose tasks and delegates are to be told of events, and other work, at the end of the read.
    @exclusivity(unchecked) private var toWake = Deque<Outbox.Turn>()
    /// ``wakeAll()`` runs.
    @exclusivity(unchecked) private var isWaking = false
    /// The streams that are still to be woken have a turn of their own.
    @exclusivity(unchecked) private var isTurnScheduled = false
    /// The link is gone.
    @exclusivity(unchecked) private var hasEnded = false
    /// How much larger than the protocol's the windows of all streams are, in bytes.
    @exclusivity(unchecked) private var extraWindow = 0

    init(_ link: Link, log: Logger) {
        node = link.node
        self.link = link
        self.log = log
    }

    /// How many streams there are.
    var count: Int { table.count }

    /// Whether some closed stream still has bytes to send.
    var hasLingering: Bool { table.hasLingering }

    /// The stream with this name.
    subscript(key: StreamTable.Key) -> Stream? { table[key] }

    // MARK: - Beginning and end

    /// Knows a stream of this node from now on, whose DIAL leaves. Returns `false`, and fails the stream, if an old stream has its
    /// port: port numbers have wrapped around.
    func begin(_ stream: Stream) -> Bool {
        guard table[stream.key] == nil else {
            link.giveStreamPlace()
            settleOffer(of: stream, isAnswered: true)
            failLocally(stream, AstraNetError(.refused, "\(stream.localAddress) is in use"))
            return false
        }
        table.insert(stream, halfOpenSince: nil)
        return true
    }

    /// The link is gone, and so are all its streams and those whose DIAL did not leave.
    func end(_ unsent: [Stream], _ reason: AstraNetError) {
        hasEnded = true
        for stream in unsent {
            link.giveStreamPlace()
            failLocally(stream, reason)
        }
        for stream in table.removeAll() { failLocally(stream, reason) }
    }

    /// The peer, a router, has lost `host`.
    func loseRoute(to host: HostID) {
        let lost = AstraNetError(.linkLost, "the route to \(host) broke")
        for stream in table.all(of: host) { forget(stream, lost) }
    }

    /// Fails the streams that were waited for too long.
    func failOverdue() {
        for (stream, error) in table.takeOverdue(now: link.now, limits: node.configuration.streams) {
            tellFailure(of: stream, error.message)
            forget(stream, error)
        }
    }

    /// A closed stream has bytes that wait for credit, or is a pushed one that waits for the client's answer.
    func lingers(_ stream: Stream) {
        table.lingers(stream, since: link.now)
    }

    // MARK: - Dials

    /// DIAL: a new stream for a listener, or a source that a server pushes to a request of ours.
    ///
    /// - Throws: why the link must be closed.
    func takeDial(_ op: Op, from peer: LinkPeer) throws(AstraNetError) {
        let block = op.payload.readableBytes > 0 ? DialBlock(decoding: op.payload) : nil
        if let source = block?.source { return try takePush(op, source, from: peer) }
        let local = node.address(port: op.header.destination.port)
        let remote = op.header.source
        let key = StreamTable.Key(remote: remote, localPort: local.port)
        guard table[key] == nil else { return }
        // A node behind a router that sends a block is one of this library.
        let understandsError = remote.host == peer.host ? peer.can(.refuse, with: remote.host) : block != nil
        guard let listener = node.listener(on: local.port, for: remote.host, over: link) else {
            return refuse(remote, local, "nobody listens on \(local)", understands: understandsError)
        }
        guard table.halfOpenCount < node.configuration.maximumHalfOpenPerLink else {
            node.counters.refusedStreams.add(1, ordering: .relaxed)
            return refuse(
                remote, local, "\(local.host) takes no more dials of this link before others are confirmed",
                understands: understandsError)
        }
        if let cookie = block?.cookie, remote.host != peer.host, cookie != node.cookies.make(for: remote.host) {
            return refuse(remote, local, PushCookies.wrongCookie, understands: true)
        }
        guard link.takeStreamPlace() else {
            return refuse(
                remote, local, "\(local.host) takes no more streams of this link", understands: understandsError)
        }
        let isEager = remote.host == peer.host ? peer.can(.eager, with: remote.host) : block?.cookie != nil
        let stream = Stream(state: .listener(isEager: isEager), localPort: local.port, remote: remote, link: link)
        if let block {
            let mayPush = isEager && (remote.host != peer.host || peer.can(.push, with: remote.host))
            stream.keep(block, mayPush: mayPush)
        }
        table.insert(stream, halfOpenSince: isEager ? nil : link.now)
        if isEager, case .refused(let message) = listener.accept(stream) {
            remove(stream)
            failLocally(stream, AstraNetError(.closed, message))
            return refuse(remote, local, message, understands: understandsError)
        }
        let syn = OpHeader(.syn, to: remote, from: local)
        if isEager, listener.answersSoon {
            // It leaves with what the listener answers.
            link.sendControlPatiently { $0.writeOp(syn) }
        } else if !isEager, block?.push != nil, remote.host != peer.host {
            link.sendControl { $0.writeOp(syn, DialBlock(cookie: self.node.cookies.make(for: remote.host))) }
        } else {
            link.sendControl { $0.writeOp(syn) }
        }
    }

    /// Answers a dial that is refused, if the dialer understands ERR as an answer.
    private func refuse(_ remote: Address, _ local: Address, _ message: String, understands: Bool = true) {
        guard understands else { return }
        link.sendControl { $0.writeOp(OpHeader(.err, to: remote, from: local), text: message) }
    }

    // MARK: - Pushed sources

    /// DIAL of a pushed source: taken only if a request of ours granted it (`docs/protocol.md` §6); otherwise answered with ERR.
    private func takePush(_ op: Op, _ source: DialBlock.Source, from peer: LinkPeer) throws(AstraNetError) {
        let remote = op.header.source
        let local = node.address(port: op.header.destination.port)
        let masterKey = StreamTable.Key(
            remote: Address(host: remote.host, port: source.streamPort), localPort: local.port)
        guard let master = table[masterKey] else {
            // A router with two links here may answer over either.
            if try !passToSiblings(op, from: peer) { refuse(remote, local, Self.noRequest) }
            return
        }
        let key = StreamTable.Key(remote: remote, localPort: local.port)
        let isFresh = table[key] == nil
        switch master.withStorage({ $0.receivePush(source, isFresh: isFresh) }) {
        case .refuse(let message):
            refuse(remote, local, message)
        case .failRequest(let message):
            refuse(remote, local, message)
            tellFailure(of: master, message)
            forget(master, AstraNetError(.protocolViolation, message))
        case .take(let window):
            guard link.takeStreamPlace() else {
                return refuse(remote, local, "\(local.host) takes no more streams of this link")
            }
            let stream = Stream(state: .pushed(window: window), localPort: local.port, remote: remote, link: link)
            table.insert(stream, halfOpenSince: nil)
            guard let queueWake = master.withStorage({ $0.offer(stream) }) else { return stream.decline() }
            if queueWake { mustWake(master) }
        }
    }

    /// The request of a pushed source that is not accepted yet.
    private func master(of stream: Stream) -> Stream? {
        // Both are at the same port of this node, and no other request is.
        table.all(of: stream.remoteAddress.host).first { other in
            other.localPort == stream.localPort
                && other.withStorage {
                    guard case .receiving = $0.active?.state.pushes else { return false }
                    return true
                }
        }
    }

    // MARK: - Ops of streams

    /// SHARED: as DATA, with the bytes in memory that both nodes have.
    ///
    /// - Throws: why the link must be closed.
    func takeShared(_ header: OpHeader, _ place: SharedPlace, from peer: LinkPeer) throws(AstraNetError) {
        guard let memory = link.memory else { return }
        let header = OpHeader(.data, to: header.destination, from: header.source)
        try take(Op(header: header), from: peer, shared: (place, memory))
    }

    /// Takes an op of a stream.
    ///
    /// - Parameter shared: the place of the bytes of a DATA op that does not carry them.
    /// - Throws: why the link must be closed.
    func take(
        _ op: Op, from peer: LinkPeer, shared: (place: SharedPlace, memory: SharedMemory)? = nil
    ) throws(AstraNetError) {
        let key = StreamTable.Key(remote: op.header.source, localPort: op.header.destination.port)
        guard let stream = table[key] else {
            _ = try passToSiblings(op, from: peer)
            return
        }
        var effects = Effects()
        stream.withStorage { perform(op, on: stream, &$0, &effects, from: peer, shared: shared) }
        if let lost = effects.lost { throw lost }
        if effects.settlesOffer { settleOffer(of: stream, isAnswered: true) }
        if effects.isForgotten { remove(stream) }
        if let reply = effects.reply { answer(stream, reply, effects.cookie) }
        if effects.accepts { accept(stream, op) }
        if let failure = effects.failure { fail(stream, failure, effects) }
        if effects.queuesWake { mustWake(stream) }
        if effects.queuesFlush { link.markDirty(stream) }
    }

    /// What is to be done about an op of a stream once the stream's lock is released.
    fileprivate struct Effects {
        var queuesWake = false
        var queuesFlush = false
        var isForgotten = false
        var settlesOffer = false
        /// The peer confirmed the dial: the listener gets the stream.
        var accepts = false
        var reply: Command?
        /// The reply says that this cookie came.
        var cookie: UInt64?
        /// Why the stream fails.
        var failure: AstraNetError?
        /// The stream fails because too much is unread on this node.
        var isOverfull = false
        /// The stream is a pushed one that this node has not accepted.
        var isOffered = false
        /// The server must be told if this node has given up the pushed source: the FIN1 and FIN2 of this node are not sent.
        var tellsDecline = false
        /// Why the link must be closed.
        var lost: AstraNetError?
        /// Released outside the lock: it may be a plugin's memory.
        var dropped: ShortQueue<ByteBuffer>?
    }

    /// Gives an op to the state machine of its stream. Under the stream's lock.
    private func perform(
        _ op: borrowing Op, on stream: Stream, _ storage: inout Stream.Storage, _ effects: inout Effects,
        from peer: LinkPeer, shared: (place: SharedPlace, memory: SharedMemory)?
    ) {
        let wasOffered = storage.state.offer == .made
        effects.isOffered = storage.state.offer == .received
        switch op.header.command {
        case .data where op.payload.readableBytes > 0 || shared != nil:
            takeData(op.payload, &storage, &effects, shared)
        case .rewind:
            guard let count = op.payload.number else { break }
            effects.take(storage.state.receivedRewind(count), &storage)
        case .windowSize:
            guard let size = op.payload.number else { break }
            effects.take(storage.state.receivedWindowSize(size), &storage)
        case .syn:
            switch storage.state.receivedSyn() {
            case .doNothing: break
            case .sendAck:
                effects.reply = .ack
                if case .receiving = storage.active?.state.pushes, stream.remoteAddress.host != peer.host,
                    let cookie = DialBlock(decoding: op.payload)?.cookie
                {
                    storage.state.peerUnderstandsPush()
                    effects.cookie = cookie
                }
                effects.queuesWake = storage.queueWake()
                effects.queuesFlush = storage.sendingIsDue()
            case .confirm, .resumeSending:
                effects.queuesWake = storage.queueWake()
                effects.queuesFlush = storage.sendingIsDue()
            case .forget:
                effects.isForgotten = true
                effects.queuesWake = storage.queueWake()
            }
        case .ack:
            if storage.state.receivedAck() == .sendSynAckAndAccept {
                effects.reply = .synAck
                effects.accepts = true
                effects.queuesFlush = storage.sendingIsDue()
            }
        case .fin1: effects.take(storage.state.receivedFin1(), &storage)
        case .fin2:
            if let count = op.payload.number, storage.lacksSources(of: count) {
                effects.failure = AstraNetError(.linkLost, "sources of the request were lost on their way")
            } else {
                effects.take(storage.state.receivedFin2(), &storage)
            }
        case .err:
            let code: AstraNetError.Code = storage.state.phase == .dialing ? .refused : .failedByPeer
            effects.failure = AstraNetError(code, String(buffer: op.payload.prefix(1_024)))
            effects.settlesOffer = wasOffered
            effects.tellsDecline = effects.isOffered
        case .forceClosed:
            effects.settlesOffer = wasOffered
            effects.failure = AstraNetError(.failedByPeer, "the peer closed the stream by force")
        default: break
        }
        if wasOffered, storage.state.offer != .made { effects.settlesOffer = true }
    }

    /// DATA or SHARED: bytes for the stream's reader. Under the stream's lock.
    private func takeData(
        _ payload: borrowing ByteBuffer, _ storage: inout Stream.Storage, _ effects: inout Effects,
        _ shared: (place: SharedPlace, memory: SharedMemory)?
    ) {
        switch storage.state.receivedData(shared?.place.count ?? payload.readableBytes) {
        case .drop: return
        case .failStream(let error):
            effects.failure = error
            return
        case .deliver: break
        }
        var unread = copy payload
        if let (place, memory) = shared {
            do throws(AstraNetError) {
                unread = try memory.bytes(at: place)
            } catch {
                effects.lost = error
                return
            }
        }
        if storage.active?.state.filling != nil {
            unread = storage.fill(unread)
            if storage.filled != nil { effects.queuesWake = storage.queueWake() }
            effects.queuesFlush = storage.creditIsDue(isDry: false)
            if unread.readableBytes == 0 { return }
        }
        guard link.buffered.take(unread.readableBytes) else {
            effects.isOverfull = true
            effects.failure = AstraNetError(.limitReached, "too many bytes wait to be read on this node")
            return
        }
        let active = storage.activate()
        // A copy, so that a few bytes do not keep the memory of all that was read with them.
        if active.state.inbox.readableBytes == 0 {
            active.state.inbox = ByteBuffer(copying: unread)
        } else {
            active.state.inbox.writeImmutableBuffer(unread)
        }
        if active.isReadAwaited { effects.queuesWake = storage.queueWake() }
    }

    /// Answers SYN or ACK.
    ///
    /// - Parameter cookie: came with SYN and is to be kept and repeated; `nil` for none.
    private func answer(_ stream: Stream, _ reply: Command, _ cookie: UInt64?) {
        let header = OpHeader(reply, to: stream.remoteAddress, from: stream.localAddress)
        link.sendControl { ops in
            if let cookie { ops.writeOp(header, DialBlock(cookie: cookie)) } else { ops.writeOp(header) }
        }
        if let cookie { node.cookies.keep(cookie, of: stream.remoteAddress.host) }
    }

    /// ACK: the listener gets the stream.
    private func accept(_ stream: Stream, _ op: Op) {
        table.opened(stream)
        if let cookie = DialBlock(decoding: op.payload)?.cookie,
            cookie == node.cookies.make(for: stream.remoteAddress.host)
        {
            stream.mayPush()
        }
        switch node.accept(stream) {
        case .accepted: break
        case .refused(let message): stream.fail(message)
        }
    }

    /// An op has failed its stream.
    private func fail(_ stream: Stream, _ failure: AstraNetError, _ effects: Effects) {
        if effects.isOverfull {
            node.counters.overfullStreams.add(1, ordering: .relaxed)
            tellFailure(of: stream, failure.message)
        } else if failure.code == .protocolViolation {
            log.warning("peer broke a stream's rules", metadata: ["error": "\(failure)"])
            tellFailure(of: stream, failure.message)
            if effects.isOffered, let master = master(of: stream) {
                tellFailure(of: master, failure.message)
                forget(master, failure)
            }
        } else if failure.code == .refused, failure.message == PushCookies.wrongCookie {
            // The next dial asks for a new one.
            node.cookies.forget(stream.remoteAddress.host)
        }
        let isClosedHere = forget(stream, failure)
        if effects.tellsDecline, isClosedHere { stream.tellDecline() }
    }

    /// A pushed source of this node was accepted or given up by the client, or given up here.
    private func settleOffer(of stream: Stream, isAnswered: Bool) {
        if let master = stream.withStorage({ $0.takeMaster() }) { settlePush(of: master, isAnswered: isAnswered) }
    }

    private func settlePush(of master: Stream, isAnswered: Bool) {
        if master.settlePush(isAnswered: isAnswered) { mustWake(master) }
    }

    /// How many links to one host are asked for a stream.
    private static let siblings = 4

    /// An op for a stream that this link does not know. A router with two links here may answer over either, whichever the
    /// stream was dialled over; what comes late, for a stream that has ended, is nobody's.
    ///
    /// What waits for the event loops of the others counts as what is forwarded does, and as there the stream fails whose bytes are
    /// too many.
    ///
    /// - Returns: whether another link may know the stream.
    /// - Throws: why the link must be closed.
    private func passToSiblings(_ op: Op, from peer: LinkPeer) throws(AstraNetError) -> Bool {
        guard op.header.source.host != peer.host else { return false }
        let siblings = node.links(to: peer.host, except: link, atMost: Self.siblings)
        guard !siblings.isEmpty else { return false }
        let size = (Self.passedSize + op.payload.readableBytes) * siblings.count
        let isBytes = op.header.command == .data
        guard link.takePassing(size, isUrgent: !isBytes) else {
            guard isBytes else { throw AstraNetError(.limitReached, "the peer sends more than is taken") }
            let message = "too many bytes wait to be taken on this node"
            link.sendControl { $0.writeFailure(message, to: op.header.source, from: op.header.destination) }
            let failure = OpHeader(.err, to: op.header.destination, from: op.header.source)
            return try passToSiblings(Op(header: failure, payload: ByteBuffer(string: message)), from: peer)
        }
        // What waits must not hold on to all that was read with it.
        let passed = Op(header: op.header, payload: ByteBuffer(copying: op.payload))
        let link = link
        let share = size / siblings.count
        // The last one that does not know the request of a pushed source says so.
        let unasked = op.header.command == .dial ? NIOLockedValueBox(siblings.count) : nil
        for sibling in siblings {
            sibling.eventLoop.execute {
                link.givePassing(share)
                let isTaken = sibling.handler.value?.takeFromSibling(passed) ?? false
                guard let unasked, !isTaken else { return }
                let isLast = unasked.withLockedValue { count in
                    count -= 1
                    return count == 0
                }
                guard isLast else { return }
                let failure = OpHeader(.err, to: passed.header.source, from: passed.header.destination)
                link.sendControl { $0.writeOp(failure, text: Self.noRequest) }
            }
        }
        return true
    }

    /// What an op takes that waits for another link's event loop, besides its payload.
    private static let passedSize = 512

    private static let noRequest = "no request waits for this source"

    /// Takes an op that came over another link to the same host, if it is for a stream of this link.
    ///
    /// - Returns: whether it is.
    /// - Throws: why the link must be closed.
    func takeFromSibling(_ op: Op, from peer: LinkPeer) throws(AstraNetError) -> Bool {
        let local = op.header.destination.port
        if op.header.command == .dial {
            guard let source = DialBlock(decoding: op.payload)?.source else { return false }
            let master = Address(host: op.header.source.host, port: source.streamPort)
            guard table[StreamTable.Key(remote: master, localPort: local)] != nil else { return false }
            try takePush(op, source, from: peer)
        } else {
            guard table[StreamTable.Key(remote: op.header.source, localPort: local)] != nil else { return false }
            try take(op, from: peer)
        }
        return true
    }

    // MARK: - Endings

    /// The stream is over on this side of the link; its waiters are told at the end of the read.
    ///
    /// - Returns: whether this node had closed or failed the stream before. Another thread may do that at any time, so this is
    ///   read under the lock that ends the stream.
    @discardableResult
    private func forget(_ stream: Stream, _ error: AstraNetError) -> Bool {
        remove(stream)
        return failLocally(stream, error)
    }

    /// The link knows the stream no longer.
    func remove(_ stream: Stream) {
        guard table.remove(stream) else { return }
        link.giveStreamPlace()
        let (master, limit) = stream.withStorage { ($0.takeMaster(), $0.state.receiveWindow.limit) }
        if let master { settlePush(of: master, isAnswered: false) }
        // A pushed stream that was not accepted has a smaller one.
        extraWindow -= max(0, Int(limit) - Int(SendWindow.initialSize))
    }

    /// - Returns: as ``forget(_:_:)``.
    @discardableResult
    private func failLocally(_ stream: Stream, _ error: AstraNetError) -> Bool {
        let (isClosedHere, queueWake, dropped) = stream.withStorage {
            storage -> (Bool, Bool, ShortQueue<ByteBuffer>?) in
            let isClosedHere = storage.state.isClosedHere
            guard storage.state.fail(error) != .doNothing else { return (isClosedHere, false, nil) }
            let dropped = storage.active?.state.takeOutbox()
            return (isClosedHere, storage.queueWake(), dropped)
        }
        withExtendedLifetime(dropped) {}
        if queueWake { mustWake(stream) }
        return isClosedHere
    }

    private func tellFailure(of stream: Stream, _ message: String) {
        link.sendControl { $0.writeFailure(message, to: stream.remoteAddress, from: stream.localAddress) }
    }

    // MARK: - Windows

    /// The larger window that a stream should have, which WND_SIZE tells its peer; `nil` if it keeps what it has. Under the
    /// stream's lock.
    ///
    /// - Parameter credit: the credit that is returned now.
    func largerWindow(for storage: inout Stream.Storage, credit: UInt32) -> UInt32? {
        let window = storage.state.receiveWindow
        let largest = UInt32(clamping: max(node.configuration.maximumWindow, Int(SendWindow.initialSize)))
        guard
            let larger = storage.tuning.credited(
                credit, unread: window.unread, limit: window.limit, largest: largest, now: link.now,
                roundTrip: link.roundTrip.load(ordering: .relaxed))
        else { return nil }
        // Windows beyond what the protocol gives every stream may grow to a quarter of what the link may hold.
        let more = Int(larger - window.limit)
        guard extraWindow + more <= node.configuration.maximumBufferedPerLink / 4 else { return nil }
        extraWindow += more
        storage.state.growReceiveWindow(to: larger)
        return larger
    }

    // MARK: - Waking

    /// How long delegates may run before the event loop looks at its sockets again: 200 µs.
    private static let turn: UInt64 = 200_000

    /// The stream is to be woken at the next ``wakeAll()``.
    func mustWake(_ stream: Stream) {
        toWake.append(.wake(stream))
    }

    /// The work that other threads want to be done is done at the next ``wakeAll()``.
    func mustTake(_ turns: [Outbox.Turn]) {
        if !turns.isEmpty { toWake.append(contentsOf: turns) }
    }

    /// Wakes the tasks and calls the delegates of the streams on which something happened, and does what other threads want to be
    /// done, for at most a turn. The rest has its turn after the event loop has looked at its sockets.
    ///
    /// - Parameter afterEach: called after each of them.
    func wakeAll(afterEach: () -> Void = {}) {
        guard !isWaking, !toWake.isEmpty else { return }
        isWaking = true
        defer { isWaking = false }
        let end = link.now &+ Self.turn
        var count = 0
        while let turn = toWake.popFirst() {
            switch turn {
            case .wake(let stream): stream.wake()
            case .run(let body): body()
            }
            afterEach()
            count += 1
            // Looks at the clock only for every fourth stream. The event loop of a link that has ended may have no later turn.
            if count & 3 == 0, !hasEnded, link.now > end { break }
        }
        guard !toWake.isEmpty, !isTurnScheduled else { return }
        isTurnScheduled = true
        // Not `execute`: an event loop runs all that it was told to, also what it is told meanwhile, before its sockets.
        let turn = NIOLoopBound(self, eventLoop: link.eventLoop)
        link.eventLoop.scheduleTask(in: .microseconds(50)) { turn.value.takeTurn() }
    }

    /// Also for a link that is gone: tasks wait for its streams.
    private func takeTurn() {
        isTurnScheduled = false
        guard let handler = link.handler.value else { return wakeAll() }
        handler.takeTurn()
    }

    /// Whether delegates are still to be called, or other threads' work is to be done.
    var hasToWake: Bool { !toWake.isEmpty }
}

extension LinkStreams.Effects {
    fileprivate mutating func take(_ action: StreamState.PeerEndAction, _ storage: inout Stream.Storage) {
        guard action != .doNothing else { return }
        isForgotten = action == .forget
        if storage.state.queued == 0 { dropped = storage.active?.state.takeOutbox() }
        queuesWake = storage.queueWake()
        queuesFlush = !isForgotten && storage.markDirty()
    }

    fileprivate mutating func take(_ action: StreamState.ReceivedCreditAction, _ storage: inout Stream.Storage) {
        switch action {
        case .doNothing: break
        case .resumeSending: queuesFlush = storage.sendingIsDue()
        case .failStream(let error): failure = error
        }
    }
}

extension Stream.Storage {
    /// Puts the stream on the list of those to wake; whether the caller must do it.
    mutating func queueWake() -> Bool {
        guard !isWakeQueued else { return false }
        isWakeQueued = true
        return true
    }
}
