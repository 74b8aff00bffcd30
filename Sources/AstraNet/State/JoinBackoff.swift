/// How long to wait before an address is joined again: exponential, with jitter, up to a minute, for ever
/// (`docs/protocol.md` §3).
struct JoinBackoff: Hashable, Sendable {
    private static let first: Duration = .milliseconds(250)
    private static let longest: Duration = .seconds(60)

    private var next = JoinBackoff.first

    /// The address could not be joined, or its link broke.
    ///
    /// - Parameter jitter: a random number in 0..<1; the wait is between half and all of the current step.
    /// - Returns: how long to wait.
    mutating func failed(jitter: Double) -> Duration {
        let step = next
        next = min(next * 2, Self.longest)
        return step * (0.5 + jitter / 2)
    }

    /// The address was joined, and the next failure begins anew.
    mutating func succeeded() {
        next = Self.first
    }
}
