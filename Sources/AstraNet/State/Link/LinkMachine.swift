internal import NIOCore

/// State machine of a link (`docs/protocol.md` §2, §3). It covers the handshake, keep-alive, the peer's abilities, the
/// destination of ops, the shared memory, and the end of the link.
///
/// Events go in, actions for the shell come out. It does no I/O and has no clock: times are nanoseconds of any
/// monotonic clock. Streams have their own state machine (``StreamState``).
struct LinkMachine: Hashable, Sendable {
    /// The phase of the link's life.
    enum Phase: Hashable, Sendable {
        /// The peer's HANDSHAKE has not arrived.
        case handshaking
        case up(LinkPeer)
        /// This node has closed its direction, and no streams are left. Received bytes are dropped until the peer
        /// closes too. Otherwise TCP would reset a connection with unread bytes and lose bytes in flight (RFC 1122
        /// §4.2.2.13).
        indirect case draining(AstraNetError)
        /// The connection is being closed.
        indirect case closing(AstraNetError)
        /// The connection is closed.
        indirect case closed(AstraNetError)
    }

    /// The progress of a close that waits until everything is flushed.
    private enum Finishing: UInt8 {
        case no
        /// Streams have bytes to send.
        case flushing
        /// All bytes are written to the connection, which has not sent them yet.
        case leaving
    }

    /// An action that the shell must perform.
    package enum Action: Hashable {
        case doNothing
        case sendHandshake
        /// Tells the node that the link is up, and at which address the peer sees this node.
        case announceUp(LinkPeer, seenAt: String, name: String?)
        /// Sends PING, and also READS if this node reads shared memory.
        case greet(sendsReads: Bool)
        case sendPing
        case sendPong(to: Address, from: Address)
        /// Stores the shortest round trip in nanoseconds if there is a new one. Sends another PING if `sendsPing`.
        case notePong(roundTrip: UInt64?, sendsPing: Bool)
        /// - Parameter understandsTLS: whether the host can use addresses that need TLS.
        case answerDiscover(HostID, understandsTLS: Bool)
        case follow(HostID, to: String)
        /// - Parameter isPrivate: whether the offer was addressed to this node only.
        case addOffer(ServiceOffer, isPrivate: Bool)
        case removeOffer(ServiceOffer)
        case logRefusedOffer(name: String)
        case takeDial(Op, from: LinkPeer)
        case takeShared(OpHeader, SharedPlace, from: LinkPeer)
        case sendTaken(UInt32)
        /// Handles that the peer, a router, has lost a host.
        case loseRoute(HostID)
        /// Handles GOAWAY: dials over this link only if no other link offers the service, and joins its address again if
        /// this node has dialled it.
        case avoidLink
        /// Flushes the streams, and closes the link at the deadline.
        case flush(deadline: UInt64)
        /// Calls ``LinkMachine/written()`` when all written bytes have been sent.
        case awaitWritten
        /// Ends all streams, and closes this node's direction of the connection. Closes the connection at the deadline,
        /// if there is one.
        case drain(AstraNetError, deadline: UInt64?)
        /// Logs the reason, and closes the connection.
        case close(AstraNetError)
        /// Closes the connection of a peer that is not a node. Logs a warning, unless this node dialled the connection.
        case reject(HandshakeFailure)
        /// Closes the connection of a drained link.
        case closeConnection
        /// Ends all streams of the link.
        case end(AstraNetError)
    }

    /// The destination of an op.
    enum Destination: Hashable {
        /// A stream of this node. The op comes from the peer, which sent or forwarded it.
        case stream(LinkPeer)
        /// Another node, to which a router forwards the op.
        case otherNode(LinkPeer)
        /// The link itself, which handles the op in ``LinkMachine/received(_:now:)``.
        case link
        /// The op has another host as its source, which the access rules do not allow. It is dropped.
        case forged
        /// The link takes no more ops.
        case none
    }

    /// The number of further round trips that are measured after the first one. The first one is slow because of cold
    /// threads and memory. A round trip that is measured ten times too long would make windows ten times too large
    /// (``WindowTuning``).
    private static let probes = 8
    /// The number of consecutive ticks without use after which a retired link is closed. The peer may dial over it
    /// until it knows the other link.
    private static let idleTicks = 3
    /// The time that the peer has to close a drained link: 5 s.
    private static let drainTime: UInt64 = 5_000_000_000
    /// The maximum length of the address in FOLLOW, in bytes. Longer text is cut.
    private static let maximumFollow = 300

    static let peerIsThisNode = AstraNetError(.protocolViolation, "the peer is this node itself")
    static let nodeIsClosed = AstraNetError(.closed, "the node is closed")

    private let localHost: HostID
    /// Whether the peer may send ops of other hosts, as routers do.
    var mayRelay = true
    /// Whether this node dialled the connection.
    private let isDialled: Bool
    /// The maximum length of a service name, in bytes.
    private let maximumServiceName: Int
    private(set) var phase = Phase.handshaking
    private var keepAlive: KeepAlive
    private var memory: SharedMemoryLedger
    private var probesLeft = LinkMachine.probes
    private var shortestRoundTrip: UInt64?
    /// The rate limit for DISCOVER, because each one is answered with up to 16 FOLLOWs. A router forwards the DISCOVERs
    /// of all hosts behind it, each of which sends one a minute. A host without an answer asks again.
    private var discovers = AnswerRateLimit(atOnce: 1_024, perSecond: 32)
    private var hasRefusedOffers = false
    private var finishing = Finishing.no
    /// Whether this link closes when it has no streams: another one leads to the same host, or one end goes away.
    private(set) var isRetired = false
    private var idleSinceRetired = 0

    init(
        localHost: HostID, isDialled: Bool, maximumServiceName: Int, memory: SharedMemoryLedger, now: UInt64,
        limits: KeepAlive.Limits
    ) {
        self.localHost = localHost
        self.isDialled = isDialled
        self.maximumServiceName = maximumServiceName
        self.memory = memory
        keepAlive = KeepAlive(now: now, limits: limits)
    }

    // MARK: - State for the shell

    /// The peer while the link is up.
    var peer: LinkPeer? {
        guard case .up(let peer) = phase else { return nil }
        return peer
    }

    /// Whether the link takes and sends ops.
    @inline(__always)
    var isOpen: Bool {
        switch phase {
        case .handshaking, .up: true
        case .draining, .closing, .closed: false
        }
    }

    /// The reason why the link takes no more ops; `nil` while it does.
    var closeReason: AstraNetError? {
        switch phase {
        case .handshaking, .up: nil
        case .draining(let reason), .closing(let reason), .closed(let reason): reason
        }
    }

    /// Whether the link closes when everything is flushed.
    var isFlushing: Bool { finishing == .flushing && isOpen }

    /// The maximum payload of a received op. Before the peer's HANDSHAKE it is Go's limit, because the peer does not
    /// know the larger one yet.
    var payloadLimit: Int {
        guard case .up = phase else { return Op.maximumPayload }
        return Op.largePayload
    }

    // MARK: - Ops

    /// Returns the destination of an op. It is called for each op, so ops of streams take the shortest path.
    @inline(__always)
    func destination(of header: OpHeader) -> Destination {
        guard case .up(let peer) = phase else { return isOpen ? .link : .none }
        guard header.destination.host == localHost || header.destination.host == .peer else { return .otherNode(peer) }
        guard mayRelay || header.source.host == peer.host || isOwnPong(header) else { return .forged }
        return header.command.isOfStreams ? .stream(peer) : .link
    }

    /// Whether the op is a PONG of the peer, which has the destination of the PING as its source.
    private func isOwnPong(_ header: OpHeader) -> Bool {
        header.command == .pong && header.source.host == .peer
    }

    /// Records that bytes arrived.
    mutating func received(now: UInt64) {
        keepAlive.received(now: now)
    }

    /// Handles an op for the link. Ops before the peer's HANDSHAKE are dropped.
    mutating func received(_ op: Op, now: UInt64) -> Action {
        guard case .up(let peer) = phase else { return receivedHandshake(op) }
        let source = op.header.source
        switch op.header.command {
        case .dial:
            return .takeDial(op, from: peer)
        case .pong:
            return receivedPong(from: peer, now: now)
        case .ping:
            return .sendPong(to: source, from: op.header.destination)
        case .service, .noService:
            return receivedService(op, from: peer)
        case .discover:
            guard discovers.take(now: now) else { return .doNothing }
            return .answerDiscover(
                source.host, understandsTLS: op.payload.readableBytesView.elementsEqual(SecureAddress.ability.utf8))
        case .follow:
            return .follow(source.host, to: String(buffer: op.payload.prefix(Self.maximumFollow)))
        case .rst:
            return .loseRoute(source.host)
        case .goAway:
            guard source.host == peer.host else { return .doNothing }
            // The dialer closes the link when it is idle. The other end may still get dials over it.
            if isDialled { retire() }
            return .avoidLink
        case .reads, .taken, .shared:
            // From another host than the peer, these are unknown commands.
            return source.host == peer.host ? receivedSharing(op, from: peer) : .doNothing
        default:
            // A second HANDSHAKE is ignored.
            return .doNothing
        }
    }

    private mutating func receivedHandshake(_ op: Op) -> Action {
        guard phase == .handshaking, op.header.command == .handshake else { return .doNothing }
        let host = op.header.source.host
        let handshake: Handshake
        do throws(AstraNetError) {
            handshake = try Handshake(decoding: op.payload)
        } catch {
            return reject(.invalid(error))
        }
        guard host != .peer else {
            return reject(.invalid(AstraNetError(.protocolViolation, "a handshake without a host id")))
        }
        guard host != localHost else {
            return close(Self.peerIsThisNode)
        }
        let peer = LinkPeer(host: host, handshake: handshake)
        phase = .up(peer)
        return .announceUp(peer, seenAt: handshake.remoteAddress, name: handshake.name)
    }

    private mutating func receivedPong(from peer: LinkPeer, now: UInt64) -> Action {
        // Only the shortest round trip counts. A longer one includes other delays.
        var shorter: UInt64?
        if let last = keepAlive.ponged(now: now), last < shortestRoundTrip ?? .max {
            shortestRoundTrip = last
            shorter = last
        }
        let sendsPing = probesLeft > 0 && peer.has(.window)
        if sendsPing {
            probesLeft -= 1
            keepAlive.pinged(now: now)
        }
        return shorter == nil && !sendsPing ? .doNothing : .notePong(roundTrip: shorter, sendsPing: sendsPing)
    }

    private func receivedService(_ op: Op, from peer: LinkPeer) -> Action {
        guard (1...maximumServiceName).contains(op.payload.readableBytes) else { return .doNothing }
        let offer = ServiceOffer(
            name: String(buffer: op.payload), address: op.header.source, isRelayed: op.header.source.host != peer.host)
        guard op.header.command == .service else { return .removeOffer(offer) }
        return .addOffer(offer, isPrivate: op.header.destination.host == localHost && offer.isRelayed)
    }

    private mutating func receivedSharing(_ op: Op, from peer: LinkPeer) -> Action {
        do throws(AstraNetError) {
            switch op.header.command {
            case .reads:
                memory.receivedReads()
            case .taken:
                try memory.receivedTaken(op.payload.number)
            default:
                guard let place = try memory.receivedShared(SharedPlace(op.payload)) else { return .doNothing }
                return .takeShared(op.header, place, from: peer)
            }
            return .doNothing
        } catch {
            return close(error)
        }
    }

    /// Handles the end of a read, after all its ops were handled.
    mutating func readEnded() -> Action {
        guard isOpen else { return .doNothing }
        let taken = memory.takeTaken()
        return taken > 0 ? .sendTaken(taken) : .doNothing
    }

    /// Handles that the node ignored an offer because the link has too many. Only the first one is logged.
    mutating func refusedOffer(name: String) -> Action {
        guard isOpen, !hasRefusedOffers else { return .doNothing }
        hasRefusedOffers = true
        return .logRefusedOffer(name: name)
    }

    // MARK: - Opening

    /// Handles that the connection is established.
    ///
    /// - Parameter isAccepted: whether the node accepts another link.
    mutating func connected(isAccepted: Bool) -> Action {
        guard phase == .handshaking else { return .doNothing }
        guard isAccepted else {
            return close(AstraNetError(.limitReached, "this node is closed or has its maximum number of links"))
        }
        return .sendHandshake
    }

    /// Handles the node's answer to ``Action/announceUp(_:seenAt:name:)``.
    ///
    /// - Parameter refusal: the reason why the node does not accept the link; `nil` if it does.
    mutating func joined(refusal: AstraNetError?, now: UInt64) -> Action {
        guard case .up = phase else { return .doNothing }
        if let refusal { return close(refusal) }
        keepAlive.pinged(now: now)
        return .greet(sendsReads: memory.use == .reads)
    }

    // MARK: - Writing

    /// Allocates a place for `count` bytes in the shared memory. Returns its offset; `nil` if the bytes must be sent as
    /// DATA.
    mutating func share(_ count: Int) -> Int? {
        memory.share(count)
    }

    /// Records that bytes were written to the connection, which is full if `isStalled`.
    mutating func wrote(now: UInt64, isStalled: Bool) {
        keepAlive.wrote(now: now, isStalled: isStalled)
    }

    /// Records that control ops of `count` bytes were written to the full connection. Closes the link if they are too
    /// many, because answers to a peer that does not read must not use memory without limit.
    mutating func wroteWhileFull(_ count: Int) -> Action {
        guard isOpen, keepAlive.wroteWhileFull(count) else { return .doNothing }
        return close(AstraNetError(.limitReached, "the peer does not read the answers to its ops"))
    }

    /// Records that the connection is writable again.
    mutating func unstalled() {
        keepAlive.unstalled()
    }

    // MARK: - Time

    /// Handles the passing of time. Called about once a second.
    ///
    /// - Parameters:
    ///   - buffered: the number of bytes that a full connection buffers; `nil` if it is not full or the number is
    ///     unknown.
    ///   - isUsed: whether streams or names need the link. Only used if the link is retired.
    mutating func tick(now: UInt64, buffered: Int?, isUsed: Bool) -> Action {
        guard isOpen else { return .doNothing }
        keepAlive.holds(buffered, now: now)
        if isRetired { idleSinceRetired = isUsed ? 0 : idleSinceRetired + 1 }
        guard phase != .handshaking else {
            return keepAlive.overdueHandshake(now: now).map { reject(.late(nanoseconds: $0)) } ?? .doNothing
        }
        let verdict = keepAlive.check(now: now)
        if case .close(let reason) = verdict { return close(reason) }
        if idleSinceRetired >= Self.idleTicks {
            return drain(
                AstraNetError(.closed, "the link was replaced and is not used"), deadline: now + Self.drainTime)
        }
        return verdict == .sendPing ? .sendPing : .doNothing
    }

    /// Whether the peer of a link that is up has sent nothing for more than two ping intervals.
    func isSilent(now: UInt64) -> Bool { peer != nil && keepAlive.isSilent(now: now) }

    // MARK: - Closing

    /// Retires the link, because another link leads to the same host, or because one end goes away.
    mutating func retire() {
        isRetired = true
    }

    /// Makes a retired link usable again, because the other link is lost.
    mutating func reinstate() {
        isRetired = false
        idleSinceRetired = 0
    }

    /// Begins to close the link because the node closes. It closes after the queued bytes of closed streams are
    /// flushed, at the latest at the deadline.
    mutating func finish(deadline: UInt64) -> Action {
        guard isOpen, finishing == .no else { return .doNothing }
        finishing = .flushing
        return .flush(deadline: deadline)
    }

    /// Handles that all bytes are written to the connection, and no stream waits for credit.
    mutating func flushed() -> Action {
        guard isFlushing else { return .doNothing }
        finishing = .leaving
        return .awaitWritten
    }

    /// Handles that all written bytes have been sent.
    mutating func written() -> Action {
        guard isOpen, finishing == .leaving else { return .doNothing }
        return drain(Self.nodeIsClosed, deadline: nil)
    }

    private mutating func drain(_ reason: AstraNetError, deadline: UInt64?) -> Action {
        phase = .draining(reason)
        return .drain(reason, deadline: deadline)
    }

    /// Closes the link.
    mutating func close(_ reason: AstraNetError) -> Action {
        switch phase {
        case .handshaking, .up:
            phase = .closing(reason)
            return .close(reason)
        case .draining:
            return .closeConnection
        case .closing, .closed:
            return .doNothing
        }
    }

    /// Closes the connection because the peer is not a node.
    mutating func reject(_ failure: HandshakeFailure) -> Action {
        guard phase == .handshaking else { return .doNothing }
        phase = .closing(failure.error(isDialled: isDialled))
        return .reject(failure)
    }

    /// Closes the link because the connection failed.
    ///
    /// - Parameters:
    ///   - isReset: whether the peer reset the connection.
    ///   - reason: the reason in words.
    mutating func connectionFailed(isReset: Bool, reason: String) -> Action {
        close(isReset && isDialled && phase == .handshaking ? Self.closedByServer : AstraNetError(.linkLost, reason))
    }

    private static let closedByServer = AstraNetError(.linkLost, "the server closed the connection")

    /// Handles that the connection is closed.
    ///
    /// - Parameter hasStreams: whether the link has open streams. Without any, the peer has ended normally.
    mutating func disconnected(hasStreams: Bool) -> Action {
        switch phase {
        case .handshaking, .up:
            let reason =
                isDialled && phase == .handshaking
                ? Self.closedByServer
                : AstraNetError(
                    .linkLost, hasStreams ? "the connection to the peer was lost" : "the peer closed the connection")
            phase = .closed(reason)
            return .end(reason)
        case .closing(let reason):
            phase = .closed(reason)
            return .end(reason)
        case .draining(let reason):
            phase = .closed(reason)
            return .doNothing
        case .closed:
            return .doNothing
        }
    }
}

extension Command {
    /// Whether the op belongs to a stream. Unknown commands count as ops of streams, and streams ignore them.
    @inline(__always)
    var isOfStreams: Bool { rawValue < Command.ping.rawValue || !isOfLinks }

    private var isOfLinks: Bool {
        switch self {
        case .ping, .pong, .dial, .handshake, .service, .noService, .follow, .discover, .rst, .goAway, .reads,
            .shared, .taken:
            true
        default: false
        }
    }
}
