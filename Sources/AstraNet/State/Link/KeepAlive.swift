/// The timing of a link (`docs/protocol.md` §2): when to send PING, and when to close the link.
///
/// It has no clock. Times are nanoseconds of any monotonic clock.
package struct KeepAlive: Hashable, Sendable {
    /// The timeouts. The defaults are those of the protocol.
    package struct Limits: Hashable, Sendable {
        /// The link is closed without the peer's HANDSHAKE after this time: 10 s.
        package var handshake: UInt64 = 10_000_000_000
        /// PING is sent after nothing was written for this time: 5 s.
        package var idleWrite: UInt64 = 5_000_000_000
        /// The link is closed after nothing arrived for this time: 100 s.
        package var silence: UInt64 = 100_000_000_000
        /// The link is closed after a write made no progress for this time: 10 s.
        package var stalledWrite: UInt64 = 10_000_000_000

        package init(
            handshake: UInt64 = 10_000_000_000, idleWrite: UInt64 = 5_000_000_000, silence: UInt64 = 100_000_000_000,
            stalledWrite: UInt64 = 10_000_000_000
        ) {
            self.handshake = handshake
            self.idleWrite = idleWrite
            self.silence = silence
            self.stalledWrite = stalledWrite
        }
    }

    /// The maximum number of control bytes that may be written to a full connection: 4 MiB. More mean that the peer
    /// asks but does not read the answers.
    package static let controlLimit = 4 << 20

    private let limits: Limits
    private let openedAt: UInt64
    private var lastReceived: UInt64
    private var lastWritten: UInt64
    /// The time since which a full connection has taken no bytes.
    private var stalledSince: UInt64?
    /// The number of bytes that the full connection buffered at the last tick.
    private var lastBuffered: Int?
    /// The number of control bytes that were written while the connection was full.
    private var stalledControl = 0
    private var pingSentAt: UInt64?

    package init(now: UInt64, limits: Limits) {
        self.limits = limits
        openedAt = now
        lastReceived = now
        lastWritten = now
    }

    /// Records that bytes arrived.
    package mutating func received(now: UInt64) {
        lastReceived = now
    }

    /// Records that bytes were written to the connection, which is full if `isStalled`.
    package mutating func wrote(now: UInt64, isStalled: Bool) {
        lastWritten = now
        if !isStalled {
            stalledSince = nil
        } else if stalledSince == nil {
            stalledSince = now
        }
    }

    /// Records that control ops of `count` bytes were written to the full connection. Returns whether they are too
    /// many.
    package mutating func wroteWhileFull(_ count: Int) -> Bool {
        stalledControl += count
        return stalledControl > Self.controlLimit
    }

    /// Records that the connection is writable again.
    package mutating func unstalled() {
        stalledSince = nil
        stalledControl = 0
    }

    /// Updates the progress of a full connection, which buffers `buffered` bytes now. `nil` means that it is not full
    /// or the number is unknown.
    ///
    /// A slow connection is not stalled. Bytes that were written since the last tick can hide progress, but cannot
    /// simulate it.
    package mutating func holds(_ buffered: Int?, now: UInt64) {
        if let buffered, let lastBuffered, buffered < lastBuffered, stalledSince != nil { stalledSince = now }
        lastBuffered = buffered
    }

    /// Records that PING is sent.
    package mutating func pinged(now: UInt64) {
        pingSentAt = now
    }

    /// Records that PONG arrived. Returns the round trip; `nil` if no PING was sent.
    package mutating func ponged(now: UInt64) -> UInt64? {
        defer { pingSentAt = nil }
        return pingSentAt.map { max(1, now - $0) }
    }

    /// Whether nothing has arrived for more than two ping intervals. A peer that works sends PING or PONG more often.
    package func isSilent(now: UInt64) -> Bool {
        // Not twice the interval, which may be the largest number.
        let silence = now - lastReceived
        return silence > limits.idleWrite && silence - limits.idleWrite > limits.idleWrite
    }

    package enum Verdict: Hashable {
        case fine
        case sendPing
        case close(AstraNetError)
    }

    /// Checks a link that waits for the peer's HANDSHAKE. Returns the timeout in nanoseconds if it has passed.
    package func overdueHandshake(now: UInt64) -> UInt64? {
        now - openedAt >= limits.handshake ? limits.handshake : nil
    }

    /// Checks a link that is up. If the result is `sendPing`, the PING counts as written.
    package mutating func check(now: UInt64) -> Verdict {
        if now - lastReceived >= limits.silence {
            return .close(
                AstraNetError(.linkLost, "received nothing from the peer for \(limits.silence / 1_000_000_000) s"))
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
