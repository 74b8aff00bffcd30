/// A process that serves an instance.
public struct WorkerStatus: Sendable, Hashable {
    public enum State: Sendable, Hashable {
        /// It is being started.
        case starting
        /// It serves.
        case serving
        /// It has ended and is started again then.
        case pausing(until: ContinuousClock.Instant)
        /// It is not wanted any more.
        case retired
    }

    /// The number of the process; `nil` where there is none at the moment.
    public var process: Int32?
    /// What becomes of it.
    public var state: State
    /// How often it was started again.
    public var restarts: Int
    /// Why it ended the last time; `nil` where it never did.
    public var lastEnd: String?
    /// Requests that are open in it.
    public var openRequests: Int
}
