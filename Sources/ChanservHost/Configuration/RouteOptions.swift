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
    /// At how many bytes a batch of frames is sent (`batch_size`). 64 KiB by default.
    public var batchSize = 65_536
    /// Bounds (`limits`).
    public var limits = Limits()

    public init() {}

    /// How much goes on at the same time.
    public struct Limits: Sendable, Hashable {
        /// Requests that are listed at the same time (`requests`); further ones wait. 4,096 by default.
        public var requests = 4_096
        /// Maximum open requests, those that are only streaming included (`concurrent`); further ones are refused as busy, so that
        /// clients try another host. `nil`, the default, is no limit.
        public var concurrent: Int?
        /// Sources of a request that are announced and not fetched yet (`unaccepted_sources`); further ones wait.
        /// 256 by default.
        public var unacceptedSources = 256

        public init() {}
    }

    /// Deadlines; `nil` is none (`none` or `off` in the file).
    public struct Timeouts: Sendable, Hashable {
        /// For a request to be listed, and after that for each of its sources to be read, in all (`serving`). None by
        /// default.
        public var serving: Duration?
        /// For the plugin to name its first source, and between two (`sourcing`). None by default.
        public var sourcing: Duration?
        /// For the client to come for a source it was told of (`chan_accept`). 30 seconds by default; never none, or a
        /// client that does not come would hold its sources for ever.
        public var chanAccept = Duration.seconds(30)
        /// For the request's body to arrive (`master_read`). 30 seconds by default, so that clients that say nothing do not
        /// fill a route's `limits.requests`.
        public var masterRead: Duration? = .seconds(30)
        /// For a source's header and name to be taken by the client (`master_write`). None by default.
        public var masterWrite: Duration?
        /// For the client to make room for a batch of frames (`frame_write`). None by default.
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
