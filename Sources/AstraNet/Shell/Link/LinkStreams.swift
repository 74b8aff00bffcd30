internal import DequeModule
internal import Logging
internal import NIOConcurrencyHelpers
internal import NIOCore

/// The streams of a link. Belongs to the event loop of its link.
///
/// It answers dials, passes other ops to the state machine of their stream, performs the machine's actions, and wakes
/// the tasks and delegates that wait on streams.
///
/// Its variables have no run-time check for overlapping accesses (see ``LinkHandler``). Accesses do not overlap:
/// - All of them are made on the event loop, and each ends before code of another type is called.
/// - ``StreamTable`` calls only `MeshStream.withStorage`, whose closures must not call other code.
/// - A stream is removed from ``toWake`` before its tasks and delegate are called.
package final class LinkStreams {
    private let node: NodeCore
    private let link: Link
    @exclusivity(unchecked) var log: Logger
    @exclusivity(unchecked) private var table = StreamTable()
    /// Stream wakes and closures that run at the end of the read.
    @exclusivity(unchecked) private var toWake = Deque<Outbox.Item>()
    /// Whether ``wakeAll(afterEach:)`` is running.
    @exclusivity(unchecked) private var isWaking = false
    /// Whether a later turn of the event loop is scheduled for the rest of ``toWake``.
    @exclusivity(unchecked) private var isTurnScheduled = false
    /// Whether the link has ended.
    @exclusivity(unchecked) private var hasEnded = false
    /// Whether ops of streams have arrived since ``takeActivity()``.
    @exclusivity(unchecked) private var hasActivity = false
    /// The FIN2 of requests whose last sources have not arrived yet, with the time in nanoseconds.
    ///
    /// A router that has two links to this node may forward a source over one and the end of its request over the
    /// other.
    @exclusivity(unchecked) private var earlyEnds: [StreamTable.Key: (fin2: Op, since: UInt64)] = [:]
    /// The time for the last sources to arrive after the end of their request, in nanoseconds (1 s).
    private static let lateSourceTime: UInt64 = 1_000_000_000
    /// Total size of the receive windows beyond the protocol's initial 65,536 bytes each, in bytes.
    @exclusivity(unchecked) private var extraWindow = 0

    init(_ link: Link, log: Logger) {
        node = link.node
        self.link = link
        self.log = log
    }

    /// Number of streams.
    package var count: Int { table.count }

    /// Whether a closed stream still has bytes to send.
    var hasLingering: Bool { table.hasLingering }

    /// The stream with this key.
    subscript(key: StreamTable.Key) -> MeshStream? { table[key] }

    // MARK: - Beginning and end

    /// Adds a stream of this node whose DIAL is sent now. Returns `false` and fails the stream if an older stream has
    /// the same port, which happens after port numbers have wrapped around.
    func begin(_ stream: MeshStream) -> Bool {
        guard table[stream.key] == nil else {
            link.releaseStreamSlot()
            settleOffer(of: stream, isAnswered: true)
            failLocally(stream, AstraNetError(.refused, "\(stream.localAddress) is in use by another stream"))
            return false
        }
        insert(stream, halfOpenSince: nil)
        return true
    }

    private func insert(_ stream: MeshStream, halfOpenSince: UInt64?) {
        table.insert(stream, halfOpenSince: halfOpenSince)
        if !link.hasRoutedStreams.load(ordering: .relaxed), stream.remoteAddress.host != link.peer?.host {
            link.hasRoutedStreams.store(true, ordering: .relaxed)
        }
    }

    /// Returns whether ops of streams have arrived since the last call.
    func takeActivity() -> Bool {
        defer { hasActivity = false }
        return hasActivity
    }

    /// Fails all streams because the link has ended.
    ///
    /// - Parameter unsent: the streams whose DIAL was not sent.
    func end(_ unsent: [MeshStream], _ reason: AstraNetError) {
        hasEnded = true
        for stream in unsent {
            link.releaseStreamSlot()
            failLocally(stream, reason)
        }
        earlyEnds = [:]
        for stream in table.removeAll() { failLocally(stream, reason) }
    }

    /// Fails the streams with `host` because the peer, a router, has lost its link to that host (RST).
    ///
    /// The router may have another link to that host, on which these streams are still open. So the host is told.
    func loseRoute(to host: HostID) {
        let lost = AstraNetError(.linkLost, "the router lost the connection to \(host)")
        for stream in table.all(of: host) {
            sendFailure(of: stream, lost.message)
            forget(stream, lost)
        }
    }

    /// Fails the streams whose handshake or remaining bytes have timed out.
    func failOverdue() {
        for (stream, error) in table.takeOverdue(now: link.now, limits: node.configuration.streams) {
            sendFailure(of: stream, error.message)
            forget(stream, error)
        }
        for (key, end) in earlyEnds where link.now - end.since >= Self.lateSourceTime {
            guard let stream = table[key] else { continue }
            sendFailure(of: stream, Self.sourcesLost.message)
            forget(stream, Self.sourcesLost)
        }
    }

    private static let sourcesLost = AstraNetError(.linkLost, "sources of the request were lost on their way")

    /// Starts the timeout of a closed stream that has bytes waiting for credit, or of a failed pushed source that waits
    /// for the client's answer.
    func lingers(_ stream: MeshStream) {
        table.lingers(stream, since: link.now)
    }

    // MARK: - Dials

    /// Handles a DIAL: opens a stream for a listener, or takes a source that a server pushes to a request of this node.
    ///
    /// - Throws: the error that must close the link.
    func takeDial(_ op: Op, from peer: LinkPeer) throws(AstraNetError) {
        let block = op.payload.readableBytes > 0 ? DialBlock(decoding: op.payload) : nil
        if let source = block?.source { return try takePush(op, source, from: peer) }
        let local = node.address(port: op.header.destination.port)
        let remote = op.header.source
        let key = StreamTable.Key(remote: remote, localPort: local.port)
        guard table[key] == nil else { return }
        // Only nodes with this project's abilities send a dial block, so a dialer behind a router that sent one
        // understands ERR.
        let understandsError =
            remote.host == peer.host ? peer.can(.refuse, with: remote.host) : block?.isOfDialer ?? false
        guard let listener = node.directory.listener(on: local.port, for: remote.host, over: link) else {
            return refuse(remote, local, "no listener at \(local)", understands: understandsError)
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
        guard link.reserveStreamSlot() else {
            return refuse(
                remote, local, "\(local.host) takes no more streams of this link", understands: understandsError)
        }
        let isEager = remote.host == peer.host ? peer.can(.eager, with: remote.host) : block?.cookie != nil
        let stream = MeshStream(state: .listener(isEager: isEager), localPort: local.port, remote: remote, link: link)
        if let block {
            let mayPush = isEager && (remote.host != peer.host || peer.can(.push, with: remote.host))
            stream.keep(block, mayPush: mayPush)
        }
        insert(stream, halfOpenSince: isEager ? nil : link.now)
        if isEager, case .refused(let message) = listener.accept(stream) {
            remove(stream)
            failLocally(stream, AstraNetError(.closed, message))
            return refuse(remote, local, message, understands: understandsError)
        }
        // Otherwise the refusal would follow the SYN, and the dialer would not try another node. A Go dialer would not
        // learn of a refusal before the SYN.
        if !isEager, understandsError, let message = listener.refusal(of: stream) {
            remove(stream)
            failLocally(stream, AstraNetError(.closed, message))
            return refuse(remote, local, message, understands: understandsError)
        }
        let syn = OpHeader(.syn, to: remote, from: local)
        if isEager, listener.answersSoon {
            // The SYN is sent together with the listener's answer.
            link.sendControlDelayed { $0.writeOp(syn) }
        } else if !isEager, block?.push != nil, remote.host != peer.host {
            link.sendControl { $0.writeOp(syn, DialBlock(cookie: self.node.cookies.make(for: remote.host))) }
        } else {
            link.sendControl { $0.writeOp(syn) }
        }
    }

    /// Refuses a DIAL of another host than the peer, which may not carry it.
    func refuseRelayed(_ dial: Op) {
        let isUnderstood = DialBlock(decoding: dial.payload)?.isOfDialer ?? false
        refuse(
            dial.header.source, node.address(port: dial.header.destination.port),
            "not allowed: the router is not one that \(node.id) accepts ('access.relay')", understands: isUnderstood)
    }

    /// Refuses a DIAL with ERR if the dialer understands that.
    private func refuse(_ remote: Address, _ local: Address, _ message: String, understands: Bool = true) {
        guard understands else { return }
        link.sendControl { $0.writeOp(OpHeader(.err, to: remote, from: local), text: message) }
    }

    // MARK: - Pushed sources

    /// Handles the DIAL of a pushed source (`docs/protocol.md` §6). Refuses it with ERR unless a request of this node
    /// granted it.
    private func takePush(_ op: Op, _ source: DialBlock.Source, from peer: LinkPeer) throws(AstraNetError) {
        let remote = op.header.source
        let local = node.address(port: op.header.destination.port)
        let masterKey = StreamTable.Key(
            remote: Address(host: remote.host, port: source.streamPort), localPort: local.port)
        guard let master = table[masterKey] else {
            // A router that has two links to this node may use either.
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
            sendFailure(of: master, message)
            forget(master, AstraNetError(.protocolViolation, message))
        case .take(let window):
            guard link.reserveStreamSlot() else {
                return refuse(remote, local, "\(local.host) takes no more streams of this link")
            }
            let stream = MeshStream(state: .pushed(window: window), localPort: local.port, remote: remote, link: link)
            insert(stream, halfOpenSince: nil)
            guard let queueWake = master.withStorage({ $0.offer(stream) }) else { return stream.decline() }
            if queueWake { scheduleWake(master) }
            if let early = earlyEnds.removeValue(forKey: masterKey) { try take(early.fin2, from: peer) }
        }
    }

    /// Returns the request of a pushed source that is not accepted yet.
    private func master(of stream: MeshStream) -> MeshStream? {
        // The request and its sources have the same local port, and no other request has it.
        table.all(of: stream.remoteAddress.host).first { other in
            other.localPort == stream.localPort
                && other.withStorage {
                    guard case .receiving = $0.active?.state.pushes else { return false }
                    return true
                }
        }
    }

    // MARK: - Ops of streams

    /// Handles SHARED: DATA whose bytes are in the shared memory (`docs/protocol.md` §7).
    ///
    /// - Throws: the error that must close the link.
    func takeShared(_ header: OpHeader, _ place: SharedPlace, from peer: LinkPeer) throws(AstraNetError) {
        guard let memory = link.memory else { return }
        let header = OpHeader(.data, to: header.destination, from: header.source)
        try take(Op(header: header), from: peer, shared: (place, memory))
    }

    /// Handles an op of a stream.
    ///
    /// - Parameter shared: the place of the bytes in shared memory, for a DATA op without payload.
    /// - Throws: the error that must close the link.
    package func take(
        _ op: Op, from peer: LinkPeer, shared: (place: SharedPlace, memory: SharedMemory)? = nil
    ) throws(AstraNetError) {
        let key = StreamTable.Key(remote: op.header.source, localPort: op.header.destination.port)
        guard let stream = table[key] else {
            _ = try passToSiblings(op, from: peer)
            return
        }
        hasActivity = true
        var effects = StreamOpEffects()
        stream.withStorage { perform(op, on: stream, &$0, &effects, from: peer, shared: shared) }
        if let failure = effects.linkFailure { throw failure }
        if effects.isEarlyEnd {
            earlyEnds[key] = (Op(header: op.header, payload: ByteBuffer(copying: op.payload)), link.now)
        }
        if effects.settlesOffer { settleOffer(of: stream, isAnswered: true) }
        if effects.isForgotten { remove(stream) }
        if let reply = effects.reply { answer(stream, reply, effects.cookie) }
        if effects.accepts { accept(stream, op) }
        if let failure = effects.failure { fail(stream, failure, effects) }
        if effects.queuesWake { scheduleWake(stream) }
        if effects.queuesFlush { link.markDirty(stream) }
    }

    /// Passes an op to the state machine of its stream. The caller holds the stream's lock.
    private func perform(
        _ op: borrowing Op, on stream: MeshStream, _ storage: inout MeshStream.Storage,
        _ effects: inout StreamOpEffects,
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
                if stream.remoteAddress.host == peer.host {
                    effects.failure = Self.sourcesLost
                } else {
                    effects.isEarlyEnd = true
                }
            } else {
                effects.take(storage.state.receivedFin2(), &storage)
            }
        case .err:
            let code: AstraNetError.Code = storage.state.phase == .dialing ? .refused : .failedByPeer
            effects.failure = AstraNetError(code, String(buffer: op.payload.prefix(1_024)))
            effects.settlesOffer = wasOffered
            effects.sendsDecline = effects.isOffered
        case .forceClosed:
            effects.settlesOffer = wasOffered
            effects.failure = AstraNetError(.failedByPeer, "the peer closed the stream with FORCE_CLOSED")
        default: break
        }
        if wasOffered, storage.state.offer != .made { effects.settlesOffer = true }
    }

    /// Handles DATA or SHARED: delivers bytes to the stream's reader. The caller holds the stream's lock.
    private func takeData(
        _ payload: borrowing ByteBuffer, _ storage: inout MeshStream.Storage, _ effects: inout StreamOpEffects,
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
                effects.linkFailure = error
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
        // The bytes are copied because a slice would keep the whole read buffer in memory.
        if active.state.inbox.readableBytes == 0 {
            active.state.inbox = ByteBuffer(copying: unread)
        } else {
            active.state.inbox.writeImmutableBuffer(unread)
        }
        if active.isReadAwaited { effects.queuesWake = storage.queueWake() }
    }

    /// Answers SYN or ACK.
    ///
    /// - Parameter cookie: the cookie that arrived with SYN. The answer repeats it and the node stores it. `nil` for
    ///   none.
    private func answer(_ stream: MeshStream, _ reply: Command, _ cookie: UInt64?) {
        let header = OpHeader(reply, to: stream.remoteAddress, from: stream.localAddress)
        link.sendControl { ops in
            if let cookie { ops.writeOp(header, DialBlock(cookie: cookie)) } else { ops.writeOp(header) }
        }
        if let cookie { node.cookies.keep(cookie, of: stream.remoteAddress.host) }
    }

    /// Handles ACK: passes the stream to the listener.
    private func accept(_ stream: MeshStream, _ op: Op) {
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
    private func fail(_ stream: MeshStream, _ failure: AstraNetError, _ effects: StreamOpEffects) {
        if effects.isOverfull {
            node.counters.overfullStreams.add(1, ordering: .relaxed)
            sendFailure(of: stream, failure.message)
        } else if failure.code == .protocolViolation {
            log.warning("protocol violation by the peer, stream failed", metadata: ["error": "\(failure)"])
            sendFailure(of: stream, failure.message)
            if effects.isOffered, let master = master(of: stream) {
                sendFailure(of: master, failure.message)
                forget(master, failure)
            }
        } else if failure.code == .refused, failure.message == PushCookies.wrongCookie {
            // The next dial asks for a new cookie.
            node.cookies.forget(stream.remoteAddress.host)
        }
        let isClosedHere = forget(stream, failure)
        if effects.sendsDecline, isClosedHere { stream.sendDecline() }
    }

    /// Settles the offer of a pushed source: the client accepted or declined it, or this node gave it up.
    private func settleOffer(of stream: MeshStream, isAnswered: Bool) {
        if let master = stream.withStorage({ $0.takeMaster() }) { settlePush(of: master, isAnswered: isAnswered) }
    }

    private func settlePush(of master: MeshStream, isAnswered: Bool) {
        if master.settlePush(isAnswered: isAnswered) { scheduleWake(master) }
    }

    /// Maximum number of other links to the same peer that are searched for a stream.
    private static let maximumSiblings = 4

    /// Passes an op of an unknown stream to the other links to the same peer.
    ///
    /// A router that has two links to this node may use either for an op, regardless of the link that the stream was
    /// dialled on. A late op of an ended stream finds no stream and is ignored.
    ///
    /// Ops that wait for the event loops of other links count against the forwarding budget. As with forwarded ops, the
    /// stream fails if its bytes exceed the budget.
    ///
    /// - Returns: whether there is another link that may have the stream.
    /// - Throws: the error that must close the link.
    private func passToSiblings(_ op: Op, from peer: LinkPeer) throws(AstraNetError) -> Bool {
        guard op.header.source.host != peer.host else { return false }
        let siblings = node.directory.links(to: peer.host, except: link, atMost: Self.maximumSiblings)
        guard !siblings.isEmpty else { return false }
        let size = (Self.passedSize + op.payload.readableBytes) * siblings.count
        let isBytes = op.header.command == .data
        guard link.reservePassing(size, isUrgent: !isBytes) else {
            guard isBytes else { throw AstraNetError(.limitReached, "the peer sends more than this node may buffer") }
            let message = "too many bytes wait to be taken on this node"
            link.sendControl { $0.writeFailure(message, to: op.header.source, from: op.header.destination) }
            let failure = OpHeader(.err, to: op.header.destination, from: op.header.source)
            return try passToSiblings(Op(header: failure, payload: ByteBuffer(string: message)), from: peer)
        }
        // The payload is copied because a slice would keep the whole read buffer in memory.
        let passed = Op(header: op.header, payload: ByteBuffer(copying: op.payload))
        let link = link
        let share = size / siblings.count
        // If no sibling has the request of a pushed source, the last sibling that was asked refuses the DIAL.
        let unanswered = op.header.command == .dial ? NIOLockedValueBox(siblings.count) : nil
        for sibling in siblings {
            sibling.eventLoop.execute {
                link.releasePassing(share)
                let isTaken = sibling.handler.value?.takeFromSibling(passed) ?? false
                guard let unanswered, !isTaken else { return }
                let isLast = unanswered.withLockedValue { count in
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

    /// Memory that an op takes besides its payload while it waits for another link's event loop, in bytes.
    private static let passedSize = 512

    private static let noRequest = "no request waits for this source"

    /// Handles an op that arrived on another link to the same host, if it belongs to a stream of this link.
    ///
    /// - Returns: whether it does.
    /// - Throws: the error that must close the link.
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

    /// Removes a stream from the link and fails it. Its tasks and delegate are woken at the end of the read.
    ///
    /// - Returns: whether this node had closed or failed the stream before. Another thread may do so at any time, so
    ///   the value is read under the same lock that ends the stream.
    @discardableResult
    private func forget(_ stream: MeshStream, _ error: AstraNetError) -> Bool {
        remove(stream)
        return failLocally(stream, error)
    }

    /// Removes a stream from the link and releases its slot, its offer and its extra window.
    func remove(_ stream: MeshStream) {
        guard table.remove(stream) else { return }
        if !earlyEnds.isEmpty { earlyEnds[stream.key] = nil }
        link.releaseStreamSlot()
        let (master, limit) = stream.withStorage { ($0.takeMaster(), $0.state.receiveWindow.limit) }
        if let master { settlePush(of: master, isAnswered: false) }
        // The window of a pushed stream that was not accepted may be smaller than the initial one.
        extraWindow -= max(0, Int(limit) - Int(SendWindow.initialSize))
    }

    /// Fails a stream without sending ops for it.
    ///
    /// - Returns: whether this node had closed or failed the stream before.
    @discardableResult
    private func failLocally(_ stream: MeshStream, _ error: AstraNetError) -> Bool {
        let (isClosedHere, queueWake, dropped) = stream.withStorage {
            storage -> (Bool, Bool, ShortQueue<ByteBuffer>?) in
            let isClosedHere = storage.state.isClosedHere
            guard storage.state.fail(error) != .doNothing else { return (isClosedHere, false, nil) }
            let dropped = storage.active?.state.takeOutbox()
            return (isClosedHere, storage.queueWake(), dropped)
        }
        withExtendedLifetime(dropped) {}
        if queueWake { scheduleWake(stream) }
        return isClosedHere
    }

    private func sendFailure(of stream: MeshStream, _ message: String) {
        stream.withStorage { $0.state.failedHere() }
        link.sendControl { $0.writeFailure(message, to: stream.remoteAddress, from: stream.localAddress) }
    }

    // MARK: - Windows

    /// Enlarges the receive window of a stream if that helps. The caller holds the stream's lock.
    ///
    /// - Parameter credit: the credit that is returned now, in bytes.
    /// - Returns: the new window for WND_SIZE; `nil` if the window stays as it is.
    func largerWindow(for storage: inout MeshStream.Storage, credit: UInt32) -> UInt32? {
        let window = storage.state.receiveWindow
        let largest = UInt32(clamping: max(node.configuration.maximumWindow, Int(SendWindow.initialSize)))
        guard
            let larger = storage.tuning.credited(
                credit, unread: window.unread, limit: window.limit, largest: largest, now: link.now,
                roundTrip: link.roundTrip.load(ordering: .relaxed))
        else { return nil }
        // The total size of windows beyond the initial size is limited to a quarter of the link's buffer limit.
        let more = Int(larger - window.limit)
        guard extraWindow + more <= node.configuration.maximumBufferedPerLink / 4 else { return nil }
        extraWindow += more
        storage.state.growReceiveWindow(to: larger)
        return larger
    }

    // MARK: - Waking

    /// Time that delegates may run before the event loop reads its sockets again, in nanoseconds (200 µs).
    private static let turnTime: UInt64 = 200_000

    /// Queues a wake of the stream for the next ``wakeAll(afterEach:)``.
    func scheduleWake(_ stream: MeshStream) {
        toWake.append(.wake(stream))
    }

    /// Queues work from other threads for the next ``wakeAll(afterEach:)``.
    func queueItems(_ items: [Outbox.Item]) {
        if !items.isEmpty { toWake.append(contentsOf: items) }
    }

    /// Runs the queued wakes and closures for at most ``turnTime``. The rest runs after the event loop has read its
    /// sockets.
    ///
    /// - Parameter afterEach: a closure that is called after each item.
    func wakeAll(afterEach: () -> Void = {}) {
        guard !isWaking, !toWake.isEmpty else { return }
        isWaking = true
        defer { isWaking = false }
        let end = link.now &+ Self.turnTime
        var count = 0
        while let item = toWake.popFirst() {
            switch item {
            case .wake(let stream): stream.wake()
            case .run(let body): body()
            }
            afterEach()
            count += 1
            // The clock is read only for every fourth item, to save time. After the link has ended, all items run now
            // because its event loop may shut down before a later turn.
            if count & 3 == 0, !hasEnded, link.now > end { break }
        }
        guard !toWake.isEmpty, !isTurnScheduled else { return }
        isTurnScheduled = true
        // `execute` would run before the event loop reads its sockets.
        let turn = NIOLoopBound(self, eventLoop: link.eventLoop)
        link.eventLoop.scheduleTask(in: .microseconds(50)) { turn.value.takeTurn() }
    }

    /// Wakes the remaining streams. It also does so after the link has ended, because tasks still wait on its streams.
    private func takeTurn() {
        isTurnScheduled = false
        guard let handler = link.handler.value else { return wakeAll() }
        handler.takeTurn()
    }

    /// Whether wakes or closures are queued.
    var hasQueuedItems: Bool { !toWake.isEmpty }
}

extension MeshStream.Storage {
    /// Marks the stream as queued for a wake. Returns whether the caller must queue it.
    mutating func queueWake() -> Bool {
        guard !isWakeQueued else { return false }
        isWakeQueued = true
        return true
    }
}
