/// The decision when to enlarge the window of a stream: when the reader keeps up and the credit limits the sender's
/// rate.
///
/// The reader keeps up if at most a quarter of the window is unread. A reader that works for a while between two reads
/// finds unread bytes; this alone does not make it slow. Credit is also returned in quarters of the window.
///
/// The credit limits the rate if at least two thirds of the window are taken in one round trip. Otherwise a larger
/// window would not make the stream faster.
///
/// On one machine a round trip takes microseconds and the initial window is enough. A larger one would only cost
/// memory.
package struct WindowTuning: Hashable, Sendable {
    /// The number of windows that the reader must take without falling behind before the rate is checked.
    private static let windowsPerCheck: UInt64 = 4

    /// The bytes credited since the last check or since the reader last fell behind.
    private var creditedBytes: UInt64 = 0
    /// The time of the first of these credits, in nanoseconds.
    private var since: UInt64 = 0

    package init() {}

    /// Handles credit for `count` bytes that is returned to the peer.
    ///
    /// - Parameters:
    ///   - unread: the number of bytes that the reader has not taken.
    ///   - limit: the current window in bytes.
    ///   - largest: the maximum window in bytes.
    ///   - now: the time in nanoseconds.
    ///   - roundTrip: the round trip of the link in nanoseconds; 0 if it is unknown.
    /// - Returns: the new window, twice as large but at most `largest`; `nil` if the window stays.
    package mutating func credited(
        _ count: UInt32, unread: UInt32, limit: UInt32, largest: UInt32, now: UInt64, roundTrip: UInt64
    ) -> UInt32? {
        guard unread <= limit / 4 else {
            creditedBytes = 0
            return nil
        }
        guard creditedBytes > 0 else {
            // Bytes that were taken before now may have arrived slowly.
            creditedBytes = 1
            since = now
            return nil
        }
        creditedBytes += UInt64(count)
        guard creditedBytes >= UInt64(limit) * Self.windowsPerCheck else { return nil }
        defer { creditedBytes = 0 }
        guard limit < largest, now > since else { return nil }
        let bytesPerRoundTrip = Double(creditedBytes) * Double(roundTrip) / Double(now - since)
        guard bytesPerRoundTrip * 1.5 > Double(limit) else { return nil }
        return limit > largest / 2 ? largest : limit * 2
    }
}
