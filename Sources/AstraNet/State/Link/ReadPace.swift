/// The rate limit of the bytes that a link reads. A second's worth may be read at once.
///
/// It has no clock: times are nanoseconds of one clock.
package struct ReadPace: Hashable, Sendable {
    private let bytesPerSecond: UInt64
    /// The time at which the bytes that were read so far are paid for.
    private var paidAt: UInt64
    /// The time after which reading pauses: the bytes of one second, in nanoseconds.
    private static let burst: UInt64 = 1_000_000_000

    /// - Parameter bytesPerSecond: the limit, at least 1.
    package init(bytesPerSecond: Int, now: UInt64) {
        self.bytesPerSecond = UInt64(max(1, bytesPerSecond))
        paidAt = now
    }

    /// Records that bytes were read.
    ///
    /// - Parameter count: the number of bytes, at most a few MiB.
    /// - Returns: how long nothing must be read, in nanoseconds; `nil` if the rate is below the limit.
    package mutating func received(_ count: Int, now: UInt64) -> UInt64? {
        paidAt = max(paidAt, now) + UInt64(count) * 1_000_000_000 / bytesPerSecond
        let ahead = paidAt - now
        return ahead > Self.burst ? ahead - Self.burst : nil
    }
}
