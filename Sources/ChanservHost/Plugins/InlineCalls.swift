internal import NIOConcurrencyHelpers

/// Whether the calls into one instance may run on the network's threads (`CHANSERV_PLUGIN_INLINE`).
///
/// A call that computes for longer than a millisecond, or blocks, is a strike: the instance then runs on plugin threads for a
/// pause, which doubles with each strike that follows soon. A large frame can make a call slow once, so that it is not for life.
/// A call that takes long because other threads have the processor is no strike. To tell the difference costs system calls, so
/// that calls are measured for a second only after one took long.
package struct InlineCalls: Sendable, Hashable {
    /// The longest call that is no strike, in nanoseconds: 1 ms.
    package static let longest: UInt64 = 1_000_000
    /// The first pause, in nanoseconds: 100 ms.
    package static let firstPause: UInt64 = 100_000_000
    /// The longest pause, in nanoseconds: one minute.
    package static let longestPause: UInt64 = 60_000_000_000

    private var pause = InlineCalls.firstPause
    /// Until then calls run on plugin threads.
    private var pausedUntil: UInt64 = 0
    private var lastStrike: UInt64 = 0
    /// Until then calls are measured.
    private var watchedUntil: UInt64 = 0
    /// How long calls are measured after one that took long, in nanoseconds: 1 s.
    package static let watchTime: UInt64 = 1_000_000_000

    package init() {}

    /// Whether calls are measured.
    package func isWatched(now: UInt64) -> Bool { now < watchedUntil }

    /// A call that was not measured took long.
    package mutating func watch(now: UInt64) { watchedUntil = now + Self.watchTime }

    /// Whether a call may run on the network's threads.
    ///
    /// - Parameter now: on the monotonic clock, in nanoseconds, as all times here.
    package func isAllowed(now: UInt64) -> Bool { now >= pausedUntil }

    /// A call on a network thread has computed, or blocked, for so long.
    ///
    /// - Returns: how long the instance now runs on plugin threads, in nanoseconds; `nil` if it was no strike.
    package mutating func took(_ duration: UInt64, now: UInt64) -> UInt64? {
        guard duration > Self.longest else { return nil }
        // A strike long after the last one begins anew.
        pause = now &- lastStrike > 2 * pause + Self.longestPause ? Self.firstPause : min(pause * 2, Self.longestPause)
        if lastStrike == 0 { pause = Self.firstPause }
        lastStrike = now
        watchedUntil = now + pause + Self.watchTime
        pausedUntil = now + pause
        return pause
    }
}
