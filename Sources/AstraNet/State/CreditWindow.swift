/// How much a stream may still send (`docs/protocol.md` §4): a sender never has more unacknowledged bytes out than the
/// receiver's window.
///
/// Invariant: `inFlight` counts exactly the bytes that were sent and not given back, and only ``reserve(_:)`` raises it,
/// never beyond `limit`. (A WND_SIZE may put `limit` below it; then nothing is available until credit comes.)
struct SendWindow: Hashable, Sendable {
    /// What each direction of a stream begins with.
    static let initialSize: UInt32 = 65_536

    private(set) var limit = SendWindow.initialSize
    private(set) var inFlight: UInt32 = 0

    /// How many bytes may be sent now.
    var available: Int { inFlight < limit ? Int(limit - inFlight) : 0 }

    /// Counts `count` bytes as sent, at most what is ``available``.
    mutating func reserve(_ count: Int) {
        precondition(count >= 0 && count <= available, "more sent than the window allows")
        inFlight += UInt32(count)
    }

    /// A REWIND gave `count` bytes back; `false`, and nothing changed, where that is more than was sent.
    mutating func release(_ count: UInt32) -> Bool {
        guard count <= inFlight else { return false }
        inFlight -= count
        return true
    }

    /// A WND_SIZE set the limit.
    mutating func resize(to limit: UInt32) {
        self.limit = limit
    }
}

/// How much a peer may still send to us, and how much credit we owe it.
///
/// Invariant: `unread + owed` is what the peer has in flight as it sees it, at most `limit`.
struct ReceiveWindow: Hashable, Sendable {
    private(set) var limit: UInt32
    /// Bytes received that nobody has taken yet.
    private(set) var unread: UInt32 = 0
    /// Bytes taken whose credit has not been returned yet.
    private(set) var owed: UInt32 = 0

    init(limit: UInt32 = SendWindow.initialSize) {
        self.limit = limit
    }

    /// Bytes came in; `false`, and nothing changed, where the peer had no credit for them.
    mutating func receive(_ count: Int) -> Bool {
        guard count <= Int(limit - unread - owed) else { return false }
        unread += UInt32(count)
        return true
    }

    /// The reader took `count` of the unread bytes.
    mutating func take(_ count: Int) {
        precondition(count >= 0 && count <= unread, "more taken than was there")
        unread -= UInt32(count)
        owed += UInt32(count)
    }

    /// The credit to return now, after which none is owed.
    mutating func settle() -> UInt32 {
        defer { owed = 0 }
        return owed
    }

    /// The peer may have more under way from now on.
    mutating func grow(to limit: UInt32) {
        precondition(limit >= self.limit, "credit cannot be taken back")
        self.limit = limit
    }

    /// Whether so much is owed that the peer could begin to wait for it: a quarter of the window. Less is returned
    /// when the reader has nothing left to read.
    var owesMuch: Bool { owed >= limit / 4 }
}
