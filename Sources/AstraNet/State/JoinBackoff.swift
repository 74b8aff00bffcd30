/// The exponential back-off of joining an address: from 250 ms to 60 s, with jitter, without end (`docs/protocol.md`
/// §3).
package struct JoinBackoff: Hashable, Sendable {
    private static let first: Duration = .milliseconds(250)
    private static let longest: Duration = .seconds(60)

    private var next = JoinBackoff.first

    package init() {}

    /// Records that the address could not be joined or its link was lost.
    ///
    /// - Parameter jitter: a random number in 0..<1. The wait is between half and all of the current step.
    /// - Returns: the time before the next attempt.
    package mutating func failed(jitter: Double) -> Duration {
        let step = next
        next = min(next * 2, Self.longest)
        return step * (0.5 + jitter / 2)
    }

    /// Records that the address was joined. The next failure starts with the shortest wait.
    package mutating func succeeded() {
        next = Self.first
    }
}
