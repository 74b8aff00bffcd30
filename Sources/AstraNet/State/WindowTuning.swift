/// When a larger window would let a stream's bytes come faster: several windows were read, each as soon as it came, so that it
/// is the sender who waits for credit.
struct WindowTuning: Hashable, Sendable {
    /// How many windows the reader must take without falling behind.
    private static let windows: UInt64 = 4

    /// Bytes credited since the window grew, or since the reader last fell behind.
    private var keptUp: UInt64 = 0

    /// Credit for `count` bytes goes back to the peer.
    ///
    /// - Parameters:
    ///   - unread: how many bytes the reader has not taken yet.
    ///   - limit: the window, in bytes.
    ///   - largest: how large it may become.
    /// - Returns: the window to have instead, twice as large; `nil` where it is large enough.
    mutating func credited(_ count: UInt32, unread: UInt32, limit: UInt32, largest: UInt32) -> UInt32? {
        guard unread == 0 else {
            keptUp = 0
            return nil
        }
        keptUp = keptUp + UInt64(count)
        guard limit < largest, keptUp >= UInt64(limit) * Self.windows else { return nil }
        keptUp = 0
        return limit > largest / 2 ? largest : limit * 2
    }
}
