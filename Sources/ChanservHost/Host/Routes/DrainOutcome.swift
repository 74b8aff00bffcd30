/// The outcome of a drain.
public struct DrainOutcome: Sendable, Hashable {
    public enum Result: Sendable, Hashable {
        /// All requests of the route have ended.
        case drained
        /// The route was enabled during the drain, or the host is stopping. Its requests continue.
        case givenUp
    }

    public var result: Result
    /// Requests that had not ended in time and were cancelled, with their sources.
    public var cancelled: Int

    package init(result: Result, cancelled: Int) {
        self.result = result
        self.cancelled = cancelled
    }
}
