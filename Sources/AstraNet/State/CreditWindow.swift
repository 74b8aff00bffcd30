/// The window of the sending direction of a stream (`docs/protocol.md` §4). A sender never has more unacknowledged
/// bytes in flight than the receiver's window.
///
/// Invariant: `inFlight` is exactly the number of bytes that were sent and not returned. Only ``reserve(_:)`` raises
/// it, and never beyond `limit`. WND_SIZE may set `limit` below it; then nothing is available until credit returns.
package struct SendWindow: Hashable, Sendable {
    /// The initial window of each direction of a stream.
    package static let initialSize: UInt32 = 65_536

    package private(set) var limit = SendWindow.initialSize
    package private(set) var inFlight: UInt32 = 0

    package init() {}

    /// The number of bytes that may be sent now.
    package var available: Int { inFlight < limit ? Int(limit - inFlight) : 0 }

    /// Records that `count` bytes are sent. They must not exceed ``available``.
    package mutating func reserve(_ count: Int) {
        precondition(count >= 0 && count <= available, "more sent than the window allows")
        inFlight += UInt32(count)
    }

    /// Handles REWIND of `count` bytes. Returns `false` and changes nothing if these are more than in flight.
    package mutating func release(_ count: UInt32) -> Bool {
        guard count <= inFlight else { return false }
        inFlight -= count
        return true
    }

    /// Handles WND_SIZE.
    package mutating func resize(to limit: UInt32) {
        self.limit = limit
    }
}

/// The window of the receiving direction of a stream, and the credit that this node owes the peer.
///
/// Invariant: `unread + owed` is the number of bytes in flight as the peer counts them, and at most `limit`.
package struct ReceiveWindow: Hashable, Sendable {
    package private(set) var limit: UInt32
    /// Received bytes that the reader has not taken.
    package private(set) var unread: UInt32 = 0
    /// Taken bytes whose credit is not returned yet.
    package private(set) var owed: UInt32 = 0

    package init(limit: UInt32 = SendWindow.initialSize) {
        self.limit = limit
    }

    /// Records received bytes. Returns `false` and changes nothing if the peer had no credit for them.
    package mutating func receive(_ count: Int) -> Bool {
        guard count <= Int(limit - unread - owed) else { return false }
        unread += UInt32(count)
        return true
    }

    /// Records that the reader has taken `count` bytes.
    package mutating func take(_ count: Int) {
        precondition(count >= 0 && count <= unread, "more taken than was there")
        unread -= UInt32(count)
        owed += UInt32(count)
    }

    /// Takes the credit to return now. None is owed afterwards.
    package mutating func settle() -> UInt32 {
        defer { owed = 0 }
        return owed
    }

    /// Enlarges the window.
    mutating func grow(to limit: UInt32) {
        precondition(limit >= self.limit, "credit cannot be taken back")
        self.limit = limit
    }

    /// Whether at least a quarter of the window is owed, so that the peer could soon wait for credit. Less is returned
    /// only when the reader has nothing left to read.
    package var owesMuch: Bool { owed >= limit / 4 }
}
