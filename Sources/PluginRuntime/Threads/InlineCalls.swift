internal import NIOConcurrencyHelpers

/// State that decides whether the calls into one instance may run on event loops (`CHANSERV_PLUGIN_INLINE`).
///
/// A call that computes for more than 1 ms, or that blocks, is a strike. After a strike the instance runs on plugin
/// threads for a pause, which doubles with each strike that follows soon. The pause is temporary because a large frame
/// can make a single call slow. A call that is slow because other threads have the processor is no strike. Detecting
/// this costs system calls, so calls are measured only for a period after a slow one.
package struct InlineCalls: Sendable, Hashable {
    /// Maximum duration of a call that is no strike, in nanoseconds: 1 ms.
    package static let longest: UInt64 = 1_000_000
    /// First pause in nanoseconds: 100 ms.
    package static let firstPause: UInt64 = 100_000_000
    /// Maximum pause in nanoseconds: 1 minute.
    package static let longestPause: UInt64 = 60_000_000_000

    private var pause = InlineCalls.firstPause
    /// Time until which calls run on plugin threads.
    private var pausedUntil: UInt64 = 0
    private var lastStrike: UInt64 = 0
    /// Time until which calls are measured.
    private var watchedUntil: UInt64 = 0
    /// Duration of measuring after a slow call, in nanoseconds: 1 s.
    package static let watchTime: UInt64 = 1_000_000_000

    package init() {}

    /// Whether calls are measured now.
    package func isWatched(now: UInt64) -> Bool { now < watchedUntil }

    /// Starts measuring, after a slow call that was not measured.
    package mutating func watch(now: UInt64) { watchedUntil = now + Self.watchTime }

    /// Whether a call may run on an event loop.
    ///
    /// - Parameter now: the monotonic clock in nanoseconds, like all times of this type.
    package func isAllowed(now: UInt64) -> Bool { now >= pausedUntil }

    /// Records the computing or blocking time of a measured call on an event loop.
    ///
    /// - Returns: duration of the pause in nanoseconds; `nil` if the call was no strike.
    package mutating func took(_ duration: UInt64, now: UInt64) -> UInt64? {
        guard duration > Self.longest else { return nil }
        // A strike long after the last one starts with the first pause again.
        pause = now &- lastStrike > 2 * pause + Self.longestPause ? Self.firstPause : min(pause * 2, Self.longestPause)
        if lastStrike == 0 { pause = Self.firstPause }
        lastStrike = now
        watchedUntil = now + pause + Self.watchTime
        pausedUntil = now + pause
        return pause
    }
}
