internal import NIOCore

/// State machine of one link (`docs/protocol.md` §2, §3): handshake, keep-alive, the abilities of the peer, which op is for whom,
/// the bytes of shared memory, and how the link ends.
///
/// Events go in; what the shell must do comes out. It does no I/O and has no clock: times are nanoseconds of any clock that only
/// goes forward. Streams have a machine of their own (``StreamState``).
struct LinkMachine: Hashable, Sendable {
    /// How far the link has come.
    enum Phase: Hashable, Sendable {
        /// The peer's HANDSHAKE has not come.
        case handshaking
        case up(LinkPeer)
        /// This end has sent its last bytes and nothing runs over the link. What comes is thrown away until the peer closes, too:
        /// a connection that is closed with unread bytes is reset, and what is under way is lost (RFC 1122 §4.2.2.13).
        indirect case draining(AstraNetError)
        /// The connection is being closed.
        indirect case closing(AstraNetError)
        /// The connection is gone.
        indirect case closed(AstraNetError)
    }

    /// How far a close has come that waits for bytes to leave.
    private enum Finishing: UInt8 {
        case no
        /// Streams have bytes to send.
        case flushing
        /// All bytes are written to the connection.
        case leaving
    }

    /// What the shell must do.
    enum Action: Hashable {
        case doNothing
        case sendHandshake
        /// Tells the node that the link is up. The peer sees this node at an address.
        case join(LinkPeer, seenAt: String)
        /// Sends PING, and READS if this node takes bytes from shared memory.
        case greet(sendsReads: Bool)
        case sendPing
        case sendPong(to: Address, from: Address)
        /// Notes that the shortest round trip, if there is a new one, is so many nanoseconds.
        case notePong(roundTrip: UInt64?, sendsPing: Bool)
        case answerDiscover(HostID)
        case follow(HostID, to: String)
        /// - Parameter isTold: whether the offer was addressed to this node alone.
        case addOffer(ServiceOffer, isTold: Bool)
        case removeOffer(ServiceOffer)
        case logRefusedOffer(name: String)
        case takeDial(Op, from: LinkPeer)
        case takeShared(OpHeader, SharedPlace, from: LinkPeer)
        case sendTaken(UInt32)
        /// The peer, a router, has lost a host.
        case loseRoute(HostID)
        /// Closes the link at the deadline, and sends what streams have to send.
        case flush(deadline: UInt64)
        /// Reports ``LinkMachine/written()`` when all written bytes have left.
        case awaitWritten
        /// Ends what runs over the link, and closes the direction to the peer. Closes the connection at the deadline, if there is
        /// one.
        case drain(AstraNetError, deadline: UInt64?)
        /// Logs the reason, and closes the connection.
        case close(AstraNetError)
        /// Closes the connection of a link that is drained.
        case closeConnection
        /// Ends what runs over the link.
        case end(AstraNetError)
    }

    /// Whom an op is for.
    enum Destination: Hashable {
        /// A stream of this node. The peer sent the op, or passed it on.
        case stream(LinkPeer)
        /// Another node, to which a router passes it on.
        case otherNode(LinkPeer)
        /// The link: ``LinkMachine/received(_:now:)``.
        case link
        /// The link takes no more ops.
        case none
    }

    /// How many round trips are measured right after the handshake. The first one was spent on threads and memory that were cold. A
    /// round trip that seems ten times as long makes windows ten times as large (``WindowTuning``).
    private static let probes = 8
    /// How many ticks in a row a retired link is unused before it is closed: the peer may dial over it until it knows the other one.
    private static let idleTicks = 3
    /// How long the peer has to close a drained link: 5 s.
    private static let drainTime: UInt64 = 5_000_000_000
    /// The longest address in FOLLOW that is looked at, in bytes.
    private static let maximumFollow = 300

    static let nodeIsClosed = AstraNetError(.closed, "the node is closed")

    private let localHost: HostID
    /// The longest service name that is believed, in bytes.
    private let maximumServiceName: Int
    private(set) var phase = Phase.handshaking
    private var keepAlive: KeepAlive
    private var memory: SharedMemoryLedger
    private var probesLeft = LinkMachine.probes
    private var shortestRoundTrip: UInt64?
    /// Each DISCOVER is answered with up to sixteen FOLLOWs. A router passes on those of all hosts behind it, which ask once a
    /// minute; a host that is not answered asks again.
    private var discovers = AnswerAllowance(atOnce: 1_024, perSecond: 32)
    private var hasRefusedOffers = false
    private var finishing = Finishing.no
    /// Another link leads to the same host: this one closes as soon as it has no streams.
    private(set) var isRetired = false
    private var idleSinceRetired = 0

    init(localHost: HostID, maximumServiceName: Int, memory: SharedMemoryLedger, now: UInt64, limits: KeepAlive.Limits)
    {
        self.localHost = localHost
        self.maximumServiceName = maximumServiceName
        self.memory = memory
        keepAlive = KeepAlive(now: now, limits: limits)
    }

    // MARK: - What the shell asks

    /// The peer while the link is up.
    var peer: LinkPeer? {
        guard case .up(let peer) = phase else { return nil }
        return peer
    }

    /// Whether ops are taken and sent.
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

    /// Whether the link closes when all bytes have left.
    var isFlushing: Bool { finishing == .flushing && isOpen }

    /// The largest payload of an op that may come. Before the peer's HANDSHAKE this is Go's limit: the peer cannot know of a larger
    /// one.
    var payloadLimit: Int {
        guard case .up = phase else { return Op.maximumPayload }
        return Op.largePayload
    }

    // MARK: - Ops

    /// Returns whom an op is for. Called for each op: ops of streams take the shortest way through it.
    @inline(__always)
    func destination(of header: OpHeader) -> Destination {
        guard case .up(let peer) = phase else { return isOpen ? .link : .none }
        guard header.destination.host == localHost || header.destination.host == .peer else { return .otherNode(peer) }
        return header.command.isOfStreams ? .stream(peer) : .link
    }

    /// Bytes came.
    mutating func received(now: UInt64) {
        keepAlive.received(now: now)
    }

    /// An op came that is for the link. Ops before the peer's HANDSHAKE are dropped.
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
            return discovers.take(now: now) ? .answerDiscover(source.host) : .doNothing
        case .follow:
            return .follow(source.host, to: String(buffer: op.payload.prefix(Self.maximumFollow)))
        case .rst:
            return .loseRoute(source.host)
        case .reads, .taken, .shared:
            // From another host than the peer it is an op that this node does not know.
            return source.host == peer.host ? receivedSharing(op, from: peer) : .doNothing
        default:
            // A second HANDSHAKE changes nothing.
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
            return close(error)
        }
        guard host != .peer else { return close(AstraNetError(.protocolViolation, "a handshake without a host id")) }
        guard host != localHost else {
            return close(AstraNetError(.protocolViolation, "the other end of the link is this very node"))
        }
        let peer = LinkPeer(host: host, handshake: handshake)
        phase = .up(peer)
        return .join(peer, seenAt: handshake.remoteAddress)
    }

    private mutating func receivedPong(from peer: LinkPeer, now: UInt64) -> Action {
        // The shortest one: a longer one waited for something else.
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
        return .addOffer(offer, isTold: op.header.destination.host == localHost && offer.isRelayed)
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

    /// All ops of a read have been taken.
    mutating func readEnded() -> Action {
        guard isOpen else { return .doNothing }
        let taken = memory.takeTaken()
        return taken > 0 ? .sendTaken(taken) : .doNothing
    }

    /// The node has more offers of this link than it takes, and ignores one of them.
    mutating func refusedOffer(name: String) -> Action {
        guard isOpen, !hasRefusedOffers else { return .doNothing }
        hasRefusedOffers = true
        return .logRefusedOffer(name: name)
    }

    // MARK: - Opening

    /// The connection is there.
    ///
    /// - Parameter isWelcome: whether the node takes one more link.
    mutating func connected(isWelcome: Bool) -> Action {
        guard phase == .handshaking else { return .doNothing }
        guard isWelcome else {
            return close(AstraNetError(.limitReached, "this node is closed or has as many links as it may have"))
        }
        return .sendHandshake
    }

    /// The node knows of the link, or is closed.
    mutating func joined(isWelcome: Bool, now: UInt64) -> Action {
        guard case .up = phase else { return .doNothing }
        guard isWelcome else { return close(Self.nodeIsClosed) }
        keepAlive.pinged(now: now)
        return .greet(sendsReads: memory.use == .reads)
    }

    // MARK: - Writing

    /// Takes room in the memory that the peer reads. Returns where it begins; `nil` if the bytes must go through the connection.
    mutating func share(_ count: Int) -> Int? {
        memory.share(count)
    }

    /// Bytes were written to the connection. It is full if `isStalled`.
    mutating func wrote(now: UInt64, isStalled: Bool) {
        keepAlive.wrote(now: now, isStalled: isStalled)
    }

    /// Control ops of `count` bytes were written to the full connection. Answers to a peer that reads nothing must not pile up without
    /// end.
    mutating func wroteWhileFull(_ count: Int) -> Action {
        guard isOpen, keepAlive.wroteWhileFull(count) else { return .doNothing }
        return close(AstraNetError(.limitReached, "the peer does not read the answers to its ops"))
    }

    /// The connection takes bytes again.
    mutating func unstalled() {
        keepAlive.unstalled()
    }

    // MARK: - Time

    /// Time passed. Called about once a second.
    ///
    /// - Parameters:
    ///   - buffered: the bytes that a full connection holds; `nil` if it is not full, or cannot tell.
    ///   - isUsed: whether streams or names need the link. It matters for a retired link only.
    mutating func tick(now: UInt64, buffered: Int?, isUsed: Bool) -> Action {
        guard isOpen else { return .doNothing }
        keepAlive.holds(buffered, now: now)
        if isRetired { idleSinceRetired = isUsed ? 0 : idleSinceRetired + 1 }
        let verdict = phase == .handshaking ? keepAlive.checkHandshake(now: now) : keepAlive.check(now: now)
        if case .close(let reason) = verdict { return close(reason) }
        if idleSinceRetired >= Self.idleTicks {
            return drain(AstraNetError(.closed, "another link leads to the same host"), deadline: now + Self.drainTime)
        }
        return verdict == .sendPing ? .sendPing : .doNothing
    }

    // MARK: - Closing

    /// Another link leads to the same host.
    mutating func retire() {
        isRetired = true
    }

    /// The link for which this one was retired is gone.
    mutating func reinstate() {
        isRetired = false
        idleSinceRetired = 0
    }

    /// The node closes: the link closes once all that was written to closed streams has left, at the latest at the deadline.
    mutating func finish(deadline: UInt64) -> Action {
        guard isOpen, finishing == .no else { return .doNothing }
        finishing = .flushing
        return .flush(deadline: deadline)
    }

    /// All bytes are written to the connection, and no stream waits for credit.
    mutating func flushed() -> Action {
        guard isFlushing else { return .doNothing }
        finishing = .leaving
        return .awaitWritten
    }

    /// All written bytes have left.
    mutating func written() -> Action {
        guard isOpen, finishing == .leaving else { return .doNothing }
        return drain(Self.nodeIsClosed, deadline: nil)
    }

    private mutating func drain(_ reason: AstraNetError, deadline: UInt64?) -> Action {
        phase = .draining(reason)
        return .drain(reason, deadline: deadline)
    }

    /// This node ends the link.
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

    /// The connection is gone.
    mutating func disconnected() -> Action {
        switch phase {
        case .handshaking, .up:
            let reason = AstraNetError(.linkLost, "the connection to the peer broke")
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
    /// Whether an op is for a stream. A node does not know all commands: a stream ignores those that it does not know.
    @inline(__always)
    fileprivate var isOfStreams: Bool { rawValue < Command.ping.rawValue || !isOfLinks }

    private var isOfLinks: Bool {
        switch self {
        case .ping, .pong, .dial, .handshake, .service, .noService, .follow, .discover, .rst, .reads, .shared, .taken:
            true
        default: false
        }
    }
}
