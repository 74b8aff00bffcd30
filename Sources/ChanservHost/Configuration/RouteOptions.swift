/// The options of a route: what stands under `defaults` with what the route says over it.
public struct RouteOptions: Sendable, Hashable {
    /// Whether frames are compressed with LZ4 where that makes them smaller (`compression`). Off by default.
    public var compression = false
    /// The deadlines (`timeouts`).
    public var timeouts = Timeouts()
    /// When the route backs off (`error_mass`).
    public var errorMass = ErrorMass()
    /// How long running requests may go on when the route goes or gets new code (`drain`); then they are cancelled.
    /// 30 seconds by default, 0 cancels at once.
    public var drain = Duration.seconds(30)

    public init() {}

    /// Deadlines; `nil` is none (`none` or `off` in the file).
    public struct Timeouts: Sendable, Hashable {
        /// For a request as a whole, from its connection to the end of its last source (`serving`). None by default.
        public var serving: Duration?
        /// For the plugin to name the next source (`sourcing`). None by default.
        public var sourcing: Duration?
        /// For the client to come for a source it was told of (`chan_accept`). 30 seconds by default.
        public var chanAccept: Duration? = .seconds(30)
        /// For the request's body to arrive (`master_read`). None by default.
        public var masterRead: Duration?
        /// For a source's header and name to be taken by the client (`master_write`). None by default.
        public var masterWrite: Duration?
        /// For a frame to be taken by the client (`frame_write`). None by default.
        public var frameWrite: Duration?

        public init() {}
    }

    /// After how many failures in a row the route withdraws its address, and for how long.
    public struct ErrorMass: Sendable, Hashable {
        /// Failures in a row (`limit`); `nil` never withdraws. 10 by default.
        public var limit: Int? = 10
        /// The first pause (`pause`). 30 seconds by default.
        public var pause = Duration.seconds(30)
        /// What the pause grows to at most (`max_pause`). 5 minutes by default.
        public var maxPause = Duration.seconds(300)

        public init() {}
    }
}
