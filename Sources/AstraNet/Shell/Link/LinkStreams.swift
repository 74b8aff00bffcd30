internal import DequeModule
internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The streams of a link. Belongs to the event loop of its link.
///
/// It answers dials, passes other ops to the state machine of their stream, performs its actions, and wakes the tasks
/// and delegates of the streams.
///
/// The exclusivity checks of its variables are off (see ``LinkHandler``). Accesses do not overlap: all are on the event
/// loop, and each ends before code of another type is called. ``StreamTable`` calls only `Stream.withStorage`, whose
/// bodies must not call other code. A waiter or a delegate is called after it was removed from ``toWake``.
final class LinkStreams {
    private let node: NodeCore
    private let link: Link
    @exclusivity(unchecked) var log: Logger
    @exclusivity(unchecked) private var table = StreamTable()
    /// Streams whose tasks and delegates are to be woken, and other work, at the end of the read.
    @exclusivity(unchecked) private var toWake = Deque<Outbox.Turn>()
    /// Whether ``wakeAll()`` runs.
    @exclusivity(unchecked) private var isWaking = false
    /// Whether another turn is scheduled for the streams that are still to be woken.
    @exclusivity(unchecked) private var isTurnScheduled = false
    /// Whether the link is closed.
    @exclusivity(unchecked) private var hasEnded = false
    /// The sum of the bytes by which the streams' windows exceed the protocol's initial window.
    @exclusivity(unchecked) private var extraWindow = 0

    init(_ link: Link, log: Logger) {
        node = link.node
        self.link = link
        self.log = log
    }

    /// The number of streams.
    var count: Int { table.count }

    /// Whether a closed stream has bytes to send.
    var hasLingering: Bool { table.hasLingering }

    /// Returns the stream with this key.
    subscript(key: StreamTable.Key) -> Stream? { table[key] }

    // MARK: - Beginning and end

    /// Adds a stream of this node whose DIAL is about to be sent.
    ///
    /// - Returns: `false`, after failing the stream, if an old stream has its port because port numbers have wrapped
    ///   around.
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

    /// Fails all streams, because the link is closed.
    ///
    /// - Parameter unsent: the streams whose DIAL was not sent.
    func end(_ unsent: [Stream], _ reason: AstraNetError) {
        hasEnded = true
        for stream in unsent {
            link.giveStreamPlace()
            failLocally(stream, reason)
        }
        for stream in table.removeAll() { failLocally(stream, reason) }
    }

    /// Fails the streams with `host`, because the peer, a router, has lost it.
    func loseRoute(to host: HostID) {
        let lost = AstraNetError(.linkLost, "the route to \(host) is lost")
        for stream in table.all(of: host) { forget(stream, lost) }
    }

    /// Fails the streams whose timeout has passed.
    func failOverdue() {
        for (stream, error) in table.takeOverdue(now: link.now, limits: node.configuration.streams) {
            tellFailure(of: stream, error.message)
            forget(stream, error)
        }
    }

    /// Starts the timeout of a closed stream whose bytes wait for credit, or of a pushed stream that waits for the
    /// client's answer.
    func lingers(_ stream: Stream) {
        table.lingers(stream, since: link.now)
    }

    // MARK: - Dials

    /// Handles DIAL: a new stream for a listener, or a source that a server pushes for a request of this node.
    ///
    /// - Throws: the reason why the link must be closed.
    func takeDial(_ op: Op, from peer: LinkPeer) throws(AstraNetError) {
        let block = op.payload.readableBytes > 0 ? DialBlock(decoding: op.payload) : nil
        if let source = block?.source { return try takePush(op, source, from: peer) }
        let local = node.address(port: op.header.destination.port)
        let remote = op.header.source
        let key = StreamTable.Key(remote: remote, localPort: local.port)
        guard table[key] == nil else { return }
        // A node behind a router that sends a dial block is of this library, so it understands ERR.
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
            // The SYN is sent together with the listener's answer.
            link.sendControlPatiently { $0.writeOp(syn) }
        } else if !isEager, block?.push != nil, remote.host != peer.host {
            link.sendControl { $0.writeOp(syn, DialBlock(cookie: self.node.cookies.make(for: remote.host))) }
        } else {
            link.sendControl { $0.writeOp(syn) }
        }
    }

    /// Refuses a dial with ERR, if the dialer understands ERR as an answer.
    private func refuse(_ remote: Address, _ local: Address, _ message: String, understands: Bool = true) {
        guard understands else { return }
        link.sendControl { $0.writeOp(OpHeader(.err, to: remote, from: local), text: message) }
    }

    // MARK: - Pushed sources

    /// Handles the DIAL of a pushed source. Takes it if a request of this node granted it (`docs/protocol.md` §6.4),
    /// otherwise answers with ERR.
    private func takePush(_ op: Op, _ source: DialBlock.Source, from peer: LinkPeer) throws(AstraNetError) {
        let remote = op.header.source
        let local = node.address(port: op.header.destination.port)
        let masterKey = StreamTable.Key(
            remote: Address(host: remote.host, port: source.streamPort), localPort: local.port)
        guard let master = table[masterKey] else {
            // A router that has two links to this node may use either of them.
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

    /// Returns the master stream of a pushed source that is not accepted yet.
    private func master(of stream: Stream) -> Stream? {
        // Both streams have the same port of this node, and no other master stream has it.
        table.all(of: stream.remoteAddress.host).first { other in
            other.localPort == stream.localPort
                && other.withStorage {
                    guard case .receiving = $0.active?.state.pushes else { return false }
                    return true
                }
        }
    }

    // MARK: - Ops of streams

    /// Handles SHARED: like DATA, but the bytes are in the shared memory.
    ///
    /// - Throws: the reason why the link must be closed.
    func takeShared(_ header: OpHeader, _ place: SharedPlace, from peer: LinkPeer) throws(AstraNetError) {
        guard let memory = link.memory else { return }
        let header = OpHeader(.data, to: header.destination, from: header.source)
        try take(Op(header: header), from: peer, shared: (place, memory))
    }

    /// Handles an op of a stream.
    ///
    /// - Parameter shared: the place of the bytes in the shared memory, for an op that does not carry them.
    /// - Throws: the reason why the link must be closed.
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

    /// The effects of an op that are performed after the stream's lock is released.
    fileprivate struct Effects {
        var queuesWake = false
        var queuesFlush = false
        var isForgotten = false
        var settlesOffer = false
        /// The peer has confirmed the dial, so the listener receives the stream.
        var accepts = false
        var reply: Command?
        /// The cookie that the reply must contain.
        var cookie: UInt64?
        /// The error that fails the stream.
        var failure: AstraNetError?
        /// The stream fails because too many unread bytes are buffered on this node.
        var isOverfull = false
        /// The stream is a pushed source that this node has not accepted.
        var isOffered = false
        /// The server must receive FIN1 and FIN2 if this node has given up the pushed source, because the failed stream
        /// does not send them itself.
        var tellsDecline = false
        /// The reason why the link must be closed.
        var lost: AstraNetError?
        /// Released outside the lock, because it may be memory of a plugin.
        var dropped: ShortQueue<ByteBuffer>?
    }

    /// Passes an op to the state machine of its stream. Called under the stream's lock.
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
                effects.failure = AstraNetError(.linkLost, "sources of the request were lost on a router")
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
            effects.failure = AstraNetError(.failedByPeer, "the peer force-closed the stream")
        default: break
        }
        if wasOffered, storage.state.offer != .made { effects.settlesOffer = true }
    }

    /// Handles DATA or SHARED: passes bytes to the stream's reader. Called under the stream's lock.
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
        // A copy, so that a few bytes do not keep the memory of the whole read.
        if active.state.inbox.readableBytes == 0 {
            active.state.inbox = ByteBuffer(copying: unread)
        } else {
            active.state.inbox.writeImmutableBuffer(unread)
        }
        if active.isReadAwaited { effects.queuesWake = storage.queueWake() }
    }

    /// Answers SYN or ACK.
    ///
    /// - Parameter cookie: the cookie of the SYN, which is stored and sent back; `nil` for none.
    private func answer(_ stream: Stream, _ reply: Command, _ cookie: UInt64?) {
        let header = OpHeader(reply, to: stream.remoteAddress, from: stream.localAddress)
        link.sendControl { ops in
            if let cookie { ops.writeOp(header, DialBlock(cookie: cookie)) } else { ops.writeOp(header) }
        }
        if let cookie { node.cookies.keep(cookie, of: stream.remoteAddress.host) }
    }

    /// Handles ACK: passes the stream to its listener.
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

    /// Fails a stream because of an op.
    private func fail(_ stream: Stream, _ failure: AstraNetError, _ effects: Effects) {
        if effects.isOverfull {
            node.counters.overfullStreams.add(1, ordering: .relaxed)
            tellFailure(of: stream, failure.message)
        } else if failure.code == .protocolViolation {
            log.warning("protocol violation on a stream", metadata: ["error": "\(failure)"])
            tellFailure(of: stream, failure.message)
            if effects.isOffered, let master = master(of: stream) {
                tellFailure(of: master, failure.message)
                forget(master, failure)
            }
        } else if failure.code == .refused, failure.message == PushCookies.wrongCookie {
            // The next dial has no cookie, and so obtains a new one.
            node.cookies.forget(stream.remoteAddress.host)
        }
        let isClosedHere = forget(stream, failure)
        if effects.tellsDecline, isClosedHere { stream.tellDecline() }
    }

    /// Records that the client has accepted or given up a pushed source of this node, or that this node has given it
    /// up.
    private func settleOffer(of stream: Stream, isAnswered: Bool) {
        if let master = stream.withStorage({ $0.takeMaster() }) { settlePush(of: master, isAnswered: isAnswered) }
    }

    private func settlePush(of master: Stream, isAnswered: Bool) {
        if master.settlePush(isAnswered: isAnswered) { mustWake(master) }
    }

    /// The maximum number of other links to the same host that are asked for a stream.
    private static let siblings = 4

    /// Passes an op of an unknown stream to other links to the same router.
    ///
    /// A router that has two links to this node may send the ops of a stream on either of them. Late ops, of a stream
    /// that has ended, belong to no link.
    ///
    /// Ops that wait for the event loops of other links use the same budget as forwarded ops. If it is exceeded, the
    /// stream of the bytes fails.
    ///
    /// - Returns: whether another link may know the stream.
    /// - Throws: the reason why the link must be closed.
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
        // A copy, so that a waiting op does not keep the memory of the whole read.
        let passed = Op(header: op.header, payload: ByteBuffer(copying: op.payload))
        let link = link
        let share = size / siblings.count
        // Counts the links that have not answered. The last one that does not know the request of a pushed source
        // answers with ERR.
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

    /// The estimated memory of a waiting op besides its payload, in bytes.
    private static let passedSize = 512

    private static let noRequest = "no request waits for this source"

    /// Handles an op that arrived on another link to the same host, if it belongs to a stream of this link.
    ///
    /// - Returns: whether it does.
    /// - Throws: the reason why the link must be closed.
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

    /// Removes a stream and fails it locally. Its waiters are resumed at the end of the read.
    ///
    /// - Returns: whether this node had closed or failed the stream before. Another thread may do that at any time, so
    ///   the value is read under the lock that ends the stream.
    @discardableResult
    private func forget(_ stream: Stream, _ error: AstraNetError) -> Bool {
        remove(stream)
        return failLocally(stream, error)
    }

    /// Removes a stream from the link.
    func remove(_ stream: Stream) {
        guard table.remove(stream) else { return }
        link.giveStreamPlace()
        let (master, limit) = stream.withStorage { ($0.takeMaster(), $0.state.receiveWindow.limit) }
        if let master { settlePush(of: master, isAnswered: false) }
        // An unaccepted pushed stream has a window below the initial one.
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

    /// Returns the larger window that a stream should get, to be sent in WND_SIZE; `nil` if its window stays. Called
    /// under the stream's lock.
    ///
    /// - Parameter credit: the credit that is about to be returned.
    func largerWindow(for storage: inout Stream.Storage, credit: UInt32) -> UInt32? {
        let window = storage.state.receiveWindow
        let largest = UInt32(clamping: max(node.configuration.maximumWindow, Int(SendWindow.initialSize)))
        guard
            let larger = storage.tuning.credited(
                credit, unread: window.unread, limit: window.limit, largest: largest, now: link.now,
                roundTrip: link.roundTrip.load(ordering: .relaxed))
        else { return nil }
        // All windows together may exceed the protocol's initial windows by a quarter of the link's buffer limit.
        let more = Int(larger - window.limit)
        guard extraWindow + more <= node.configuration.maximumBufferedPerLink / 4 else { return nil }
        extraWindow += more
        storage.state.growReceiveWindow(to: larger)
        return larger
    }

    // MARK: - Waking

    /// The maximum time for which delegates run before the event loop polls its sockets: 200 µs.
    private static let turn: UInt64 = 200_000

    /// Queues the stream for the next ``wakeAll()``.
    func mustWake(_ stream: Stream) {
        toWake.append(.wake(stream))
    }

    /// Queues the work of other threads for the next ``wakeAll()``.
    func mustTake(_ turns: [Outbox.Turn]) {
        if !turns.isEmpty { toWake.append(contentsOf: turns) }
    }

    /// Wakes the queued streams and does the queued work, for at most one turn. The rest follows after the event loop
    /// has polled its sockets.
    ///
    /// - Parameter afterEach: called after each piece of work.
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
            // The clock is read only after every fourth stream. After the link has ended, the event loop may run no
            // later turn.
            if count & 3 == 0, !hasEnded, link.now > end { break }
        }
        guard !toWake.isEmpty, !isTurnScheduled else { return }
        isTurnScheduled = true
        // `execute` would starve the sockets: an event loop runs all executed closures, including new ones, before it
        // polls them.
        let turn = NIOLoopBound(self, eventLoop: link.eventLoop)
        link.eventLoop.scheduleTask(in: .microseconds(50)) { turn.value.takeTurn() }
    }

    /// Runs the next turn. Also runs for a closed link, because tasks may still wait for its streams.
    private func takeTurn() {
        isTurnScheduled = false
        guard let handler = link.handler.value else { return wakeAll() }
        handler.takeTurn()
    }

    /// Whether streams are still to be woken or work is to be done.
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
    /// Marks the stream as queued for waking. Returns whether the caller must queue it.
    mutating func queueWake() -> Bool {
        guard !isWakeQueued else { return false }
        isWakeQueued = true
        return true
    }
}
