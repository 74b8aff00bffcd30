/// How many of a peer's questions are answered whose answer is larger than they are: so many at once, and in the long run so many
/// a second.
struct AnswerAllowance: Hashable, Sendable {
    private let atOnce: UInt64
    /// Nanoseconds from one to the next in the long run.
    private let interval: UInt64
    /// When all that was answered is paid for, in nanoseconds.
    private var settledAt: UInt64 = 0

    init(atOnce: UInt64, perSecond: UInt64) {
        self.atOnce = atOnce
        interval = 1_000_000_000 / perSecond
    }

    /// A question came.
    ///
    /// - Returns: whether to answer it.
    mutating func take(now: UInt64) -> Bool {
        let settled = max(settledAt, now) + interval
        guard settled - now <= atOnce * interval else { return false }
        settledAt = settled
        return true
    }
}
