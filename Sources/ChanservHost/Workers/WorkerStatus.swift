/// Status of a process that serves an instance.
public struct WorkerStatus: Sendable, Hashable {
    public enum State: Sendable, Hashable {
        /// The process is being started.
        case starting
        /// The process serves requests.
        case serving
        /// The process has ended and is restarted at this time.
        case pausing(until: ContinuousClock.Instant)
        /// The process is no longer needed.
        case retired
    }

    /// Process id; `nil` if there is no process at the moment.
    public var process: Int32?
    /// Current state.
    public var state: State
    /// Number of restarts.
    public var restarts: Int
    /// Reason of its last end; `nil` if it never ended.
    public var lastEnd: String?
    /// Number of open requests in the process, including unfinished ones.
    public var openRequests: Int
    /// Number of requests that have ended for their clients and that the plugin has not closed, for example because a
    /// call does not return. The process reports it once a second.
    public var unfinishedRequests: Int
}
