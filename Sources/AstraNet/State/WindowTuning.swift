/// When a larger window would let a stream's bytes come faster: where the reader takes them as they come, and the sender has
/// no more under way than what arrives in two round trips, so that it is the credit which keeps it waiting.
///
/// A reader that works for a while on what it has taken finds more when it comes back, and is not slow for that: it keeps up for
/// as long as no more than a quarter of the window is left to it, which is what credit goes back in. Who takes less in a round
/// trip than the window holds gets no larger one, whatever is left, for then it is not the credit that keeps the bytes waiting.
///
/// Between two ends of one machine, where a round trip takes microseconds, the window of the protocol is enough; a larger
/// one would only cost memory.
struct WindowTuning: Hashable, Sendable {
    /// How many windows the reader must take without falling behind before the rate is judged.
    private static let windows: UInt64 = 4

    /// Bytes credited since the rate was judged last, or since the reader last fell behind.
    private var keptUp: UInt64 = 0
    /// When the first of them were, in nanoseconds.
    private var since: UInt64 = 0

    /// Credit for `count` bytes goes back to the peer.
    ///
    /// - Parameters:
    ///   - unread: how many bytes the reader has not taken yet.
    ///   - limit: the window, in bytes.
    ///   - largest: how large it may become.
    ///   - now: nanoseconds.
    ///   - roundTrip: of the link, in nanoseconds; 0 where it is not known.
    /// - Returns: the window to have instead, twice as large; `nil` where it is large enough.
    mutating func credited(
        _ count: UInt32, unread: UInt32, limit: UInt32, largest: UInt32, now: UInt64, roundTrip: UInt64
    ) -> UInt32? {
        guard unread <= limit / 4 else {
            keptUp = 0
            return nil
        }
        guard keptUp > 0 else {
            // What came before now is not known to have come fast.
            keptUp = 1
            since = now
            return nil
        }
        keptUp += UInt64(count)
        guard keptUp >= UInt64(limit) * Self.windows else { return nil }
        defer { keptUp = 0 }
        guard limit < largest, now > since else { return nil }
        let bytesPerRoundTrip = Double(keptUp) * Double(roundTrip) / Double(now - since)
        guard bytesPerRoundTrip * 1.5 > Double(limit) else { return nil }
        return limit > largest / 2 ? largest : limit * 2
    }
}
