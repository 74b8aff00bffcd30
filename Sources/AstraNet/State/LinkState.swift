/// One link's handshake and keep-alive (`docs/protocol.md` §2), without I/O or a clock: times come in as nanoseconds of any
/// clock that only goes forward.
struct LinkState: Hashable, Sendable {
    /// How long things may take; the defaults are the protocol's.
    struct Limits: Hashable, Sendable {
        /// A link without the peer's HANDSHAKE after this is closed.
        var handshake: UInt64 = 10_000_000_000
        /// After writing nothing for this, PING.
        var idleWrite: UInt64 = 5_000_000_000
        /// A link on which no op came for this is closed.
        var silence: UInt64 = 100_000_000_000
        /// A link that could not write for this is closed.
        var stalledWrite: UInt64 = 10_000_000_000
    }

    /// How far the link has come.
    enum Phase: Hashable, Sendable {
        case handshaking
        case up(peer: HostID)
        case closed
    }

    private let limits: Limits
    private let localHost: HostID
    private(set) var phase = Phase.handshaking
    private let openedAt: UInt64
    private var lastReceived: UInt64
    private var lastWritten: UInt64
    /// Since when the connection has taken no bytes although there are some.
    private var stalledSince: UInt64?

    init(localHost: HostID, now: UInt64, limits: Limits = Limits()) {
        self.localHost = localHost
        self.limits = limits
        openedAt = now
        lastReceived = now
        lastWritten = now
    }

    enum ReceivedHandshakeAction: Hashable {
        case linkUp(peer: HostID)
        case close(AstraNetError)
        case doNothing
    }

    /// The peer's HANDSHAKE. A second one changes nothing; one from ourselves ends the link.
    mutating func receivedHandshake(from peer: HostID) -> ReceivedHandshakeAction {
        guard phase == .handshaking else { return .doNothing }
        guard peer != HostID.peer else {
            phase = .closed
            return .close(AstraNetError(.protocolViolation, "a handshake without a host id"))
        }
        guard peer != localHost else {
            phase = .closed
            return .close(AstraNetError(.protocolViolation, "the other end of the link is this very node"))
        }
        phase = .up(peer: peer)
        return .linkUp(peer: peer)
    }

    /// Ops came in. Those before the peer's HANDSHAKE are dropped by the caller.
    mutating func received(now: UInt64) {
        lastReceived = now
    }

    /// Bytes were handed to the connection, which `isStalled` when it takes no more for now.
    mutating func wrote(now: UInt64, isStalled: Bool) {
        lastWritten = now
        if !isStalled {
            stalledSince = nil
        } else if stalledSince == nil {
            stalledSince = now
        }
    }

    /// The connection took some bytes, though it is still full.
    mutating func progressed(now: UInt64) {
        if stalledSince != nil { stalledSince = now }
    }

    /// The connection takes bytes again.
    mutating func unstalled() {
        stalledSince = nil
    }

    enum TickAction: Hashable {
        case sendPing
        case close(AstraNetError)
        case doNothing
    }

    /// Time passed. Called about once a second.
    mutating func tick(now: UInt64) -> TickAction {
        switch phase {
        case .closed:
            return .doNothing
        case .handshaking:
            guard now - openedAt >= limits.handshake else { return .doNothing }
            phase = .closed
            return .close(AstraNetError(.deadlineExceeded, "no handshake within \(limits.handshake / 1_000_000_000) s"))
        case .up:
            if now - lastReceived >= limits.silence {
                phase = .closed
                return .close(
                    AstraNetError(.linkLost, "nothing came from the peer for \(limits.silence / 1_000_000_000) s"))
            }
            if let stalledSince, now - stalledSince >= limits.stalledWrite {
                phase = .closed
                return .close(
                    AstraNetError(.linkLost, "the peer took no bytes for \(limits.stalledWrite / 1_000_000_000) s"))
            }
            guard now - lastWritten >= limits.idleWrite else { return .doNothing }
            lastWritten = now
            return .sendPing
        }
    }

    /// The connection is gone.
    mutating func closed() {
        phase = .closed
    }
}
