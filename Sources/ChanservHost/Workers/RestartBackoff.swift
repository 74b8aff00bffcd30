/// When a process that has ended is started again: at once after a long life, ever later where it keeps ending. Pure: time
/// and chance come in as arguments.
struct RestartBackoff: Sendable, Hashable {
    /// The first pause. 100 ms.
    static let firstPause = Duration.milliseconds(100)
    /// The longest pause. 30 s.
    static let longestPause = Duration.seconds(30)
    /// Who has lived so long has recovered. 10 s.
    static let recovery = Duration.seconds(10)

    /// Ends in a row, without a long life between them.
    private(set) var ends = 0

    /// The process has ended.
    ///
    /// - Parameters:
    ///   - lifetime: how long it was ready; zero where it never was.
    ///   - chance: from 0 to 1: many workers that ended together are not started together.
    /// - Returns: how long to wait.
    mutating func ended(after lifetime: Duration, chance: Double) -> Duration {
        if lifetime >= Self.recovery { ends = 0 }
        ends += 1
        var pause = Self.firstPause
        for _ in 1..<min(ends, 16) where pause < Self.longestPause { pause += pause }
        pause = min(pause, Self.longestPause)
        // Half of it at least: a pause by chance of nearly nothing would be none.
        return pause / 2 + pause / 2 * chance
    }
}
