/// Delay before a process that has ended is started again: short after a long life, growing if the process keeps
/// ending. The time and the random number are arguments.
package struct RestartBackoff: Sendable, Hashable {

    package init() {
    }
    /// First pause: 100 ms.
    package static let firstPause = Duration.milliseconds(100)
    /// Maximum pause: 30 s.
    package static let longestPause = Duration.seconds(30)
    /// Lifetime after which the backoff starts with the first pause again: 10 s.
    package static let recovery = Duration.seconds(10)

    /// Number of consecutive ends without a long life in between.
    private(set) var ends = 0

    /// Records the end of the process.
    ///
    /// - Parameters:
    ///   - lifetime: time for which the process was ready; zero if it never was.
    ///   - chance: random number from 0 to 1. It spreads the restarts of processes that ended at the same time.
    /// - Returns: the pause before the restart.
    package mutating func ended(after lifetime: Duration, chance: Double) -> Duration {
        if lifetime >= Self.recovery { ends = 0 }
        ends += 1
        var pause = Self.firstPause
        for _ in 1..<min(ends, 16) where pause < Self.longestPause { pause += pause }
        pause = min(pause, Self.longestPause)
        // At least half of the pause, so that the random number cannot make it almost zero.
        return pause / 2 + pause / 2 * chance
    }
}
