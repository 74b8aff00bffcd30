/// A rate limit for answers that are larger than the question: a burst at once, then a constant rate.
package struct AnswerRateLimit: Hashable, Sendable {
    private let atOnce: UInt64
    /// The nanoseconds between two answers at the constant rate.
    private let interval: UInt64
    /// The time at which the constant rate has caught up with the given answers, in nanoseconds.
    private var settledAt: UInt64 = 0

    package init(atOnce: UInt64, perSecond: UInt64) {
        self.atOnce = atOnce
        interval = 1_000_000_000 / perSecond
    }

    /// Counts a question.
    ///
    /// - Returns: whether to answer it.
    package mutating func take(now: UInt64) -> Bool {
        let settled = max(settledAt, now) + interval
        guard settled - now <= atOnce * interval else { return false }
        settledAt = settled
        return true
    }
}
