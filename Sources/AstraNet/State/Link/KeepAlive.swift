/// The times of one link (`docs/protocol.md` §2): when to send PING, and when to give the link up.
///
/// It has no clock. Times are nanoseconds of any clock that only goes forward.
struct KeepAlive: Hashable, Sendable {
    /// How long things may take. The defaults are the protocol's.
    struct Limits: Hashable, Sendable {
        /// A link without the peer's HANDSHAKE is closed after this time: 10 s.
        var handshake: UInt64 = 10_000_000_000
        /// PING is sent if nothing was written for this time: 5 s.
        var idleWrite: UInt64 = 5_000_000_000
        /// A link on which nothing came for this time is closed: 100 s.
        var silence: UInt64 = 100_000_000_000
        /// A link that could not write for this time is closed: 10 s.
        var stalledWrite: UInt64 = 10_000_000_000
    }

    /// More control bytes than this in a full connection mean a peer that asks and does not read: 4 MiB.
    static let controlLimit = 4 << 20

    private let limits: Limits
    private let openedAt: UInt64
    private var lastReceived: UInt64
    private var lastWritten: UInt64
    /// The time since when the connection has taken no bytes although there are some.
    private var stalledSince: UInt64?
    /// Bytes that the full connection held at the last tick.
    private var lastBuffered: Int?
    /// Bytes of control ops that were written while the connection was full.
    private var stalledControl = 0
    private var pingSentAt: UInt64?

    init(now: UInt64, limits: Limits) {
        self.limits = limits
        openedAt = now
        lastReceived = now
        lastWritten = now
    }

    /// Bytes came.
    mutating func received(now: UInt64) {
        lastReceived = now
    }

    /// Bytes were written to the connection. It is full if `isStalled`.
    mutating func wrote(now: UInt64, isStalled: Bool) {
        lastWritten = now
        if !isStalled {
            stalledSince = nil
        } else if stalledSince == nil {
            stalledSince = now
        }
    }

    /// Control ops of `count` bytes were written to the full connection. Returns whether they are too many.
    mutating func wroteWhileFull(_ count: Int) -> Bool {
        stalledControl += count
        return stalledControl > Self.controlLimit
    }

    /// The connection takes bytes again.
    mutating func unstalled() {
        stalledSince = nil
        stalledControl = 0
    }

    /// A full connection holds `buffered` bytes now; `nil` if it is not full, or cannot tell.
    ///
    /// A slow connection is not a stalled one. Bytes that were written since the last tick hide some progress, and never
    /// feign it.
    mutating func holds(_ buffered: Int?, now: UInt64) {
        if let buffered, let lastBuffered, buffered < lastBuffered, stalledSince != nil { stalledSince = now }
        lastBuffered = buffered
    }

    /// PING is sent.
    mutating func pinged(now: UInt64) {
        pingSentAt = now
    }

    /// PONG came. Returns the round trip; `nil` if no PING was sent.
    mutating func ponged(now: UInt64) -> UInt64? {
        defer { pingSentAt = nil }
        return pingSentAt.map { max(1, now - $0) }
    }

    enum Verdict: Hashable {
        case fine
        case sendPing
        case close(AstraNetError)
    }

    /// Judges a link that waits for the peer's HANDSHAKE.
    func checkHandshake(now: UInt64) -> Verdict {
        guard now - openedAt >= limits.handshake else { return .fine }
        return .close(
            AstraNetError(.deadlineExceeded, "no handshake within \(limits.handshake / 1_000_000_000) s"))
    }

    /// Judges a link that is up. It counts as written to if this is `sendPing`.
    mutating func check(now: UInt64) -> Verdict {
        if now - lastReceived >= limits.silence {
            return .close(
                AstraNetError(.linkLost, "nothing came from the peer for \(limits.silence / 1_000_000_000) s"))
        }
        if let stalledSince, now - stalledSince >= limits.stalledWrite {
            return .close(
                AstraNetError(.linkLost, "the peer took no bytes for \(limits.stalledWrite / 1_000_000_000) s"))
        }
        guard now - lastWritten >= limits.idleWrite else { return .fine }
        lastWritten = now
        pingSentAt = now
        return .sendPing
    }
}
