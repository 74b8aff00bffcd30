/// The options of a route: those of `defaults` with the route's own merged over them.
public struct RouteOptions: Sendable, Hashable {
    /// Whether frames are compressed with LZ4 if that makes them smaller (`compression`). Off by default.
    public var compression = false
    /// The timeouts (`timeouts`).
    public var timeouts = Timeouts()
    /// When and for how long failures withdraw the route (`error_mass`).
    public var errorMass = ErrorMass()
    /// How long running requests may go on after the route was removed, drained or got new code (`drain`). Then the
    /// host cancels them. 30 seconds by default; 0 cancels at once.
    public var drain = Duration.seconds(30)
    /// Size at which a batch of frames is sent, in bytes (`batch_size`). 64 KiB by default.
    public var batchSize = 65_536
    /// The limits (`limits`).
    public var limits = Limits()
    /// How a new version of the plugin is judged before the old one is destroyed (`deploy`).
    public var deploy = Deploy()
    /// Who may call the route, and how often (`access`).
    public var access = Access()

    public init() {}

    /// Limits on concurrent work.
    public struct Limits: Sendable, Hashable {
        /// Maximum requests that are still listing sources (`requests`); further requests queue. 4,096 by default.
        public var requests = 4_096
        /// Maximum open requests, including those that only stream (`concurrent`). Further ones are refused as busy, so
        /// that clients try another host. `nil`, the default, is no limit.
        public var concurrent: Int?
        /// Maximum sources of one request that are announced and not fetched (`unaccepted_sources`); further sources
        /// wait. 256 by default.
        public var unacceptedSources = 256

        public init() {}
    }

    /// Who may call the route, and how often. A caller is the name that a peer proves, or the IP address of a peer that
    /// proves none.
    public struct Access: Sendable, Hashable {
        /// The names of the identities that may call the route (`allow`). `nil`, the default, denies it to all if there
        /// is a section `access`, and allows it to all otherwise.
        public var allow: Set<String>?
        /// Maximum requests of one caller per time (`rate`). `nil`, the default, is no limit.
        public var rate: RequestRate?
        /// Maximum requests of one caller at once, before the rate limits them (`burst`). `nil`, the default, is
        /// ``RequestRate/perSecond``.
        public var burst: Int?
        /// Maximum open requests of one caller (`concurrent`). `nil`, the default, is no limit.
        public var concurrent: Int?

        public init() {}
    }

    /// Timeouts; `nil` is no timeout (`none` or `off` in the file).
    public struct Timeouts: Sendable, Hashable {
        /// For a request to list its sources, and for each source from its acceptance by the client to its end
        /// (`serving`). None by default.
        public var serving: Duration?
        /// For the plugin to announce its first source, and then each next one (`sourcing`). None by default.
        public var sourcing: Duration?
        /// For the client to fetch an announced source (`chan_accept`). 30 seconds by default. It cannot be switched
        /// off, because a client that never fetches would hold its sources for ever.
        public var chanAccept = Duration.seconds(30)
        /// For the body of the request to arrive (`master_read`). 30 seconds by default, so that silent clients do not
        /// fill the route's `limits.requests`.
        public var masterRead: Duration? = .seconds(30)
        /// For the client to take the header and name of a source (`master_write`). None by default.
        public var masterWrite: Duration?
        /// For the client to grant credit for a batch of frames (`frame_write`). None by default.
        public var frameWrite: Duration?

        public init() {}
    }

    /// How the host judges a new version of a plugin, after a reload gave it to a route that had another one.
    public struct Deploy: Sendable, Hashable {
        /// How long the old version stays ready (`probation`). `nil`, the default: it is destroyed at once.
        public var probation: Duration?
        /// Percentage of the requests that the old version answers meanwhile, for comparison (`control`), 0 to 50. 10
        /// by default. 0 compares nothing: only a failed instance, or failures in a row, end the probation with a rollback.
        public var control = 10
        /// Minimum number of requests of each version for a good end of the probation, and for the comparison of times
        /// (`requests`). 20 by default.
        public var requests = 20
        /// Maximum failure rate of the new version, as a multiple of the old version's (`failure_ratio`); `nil` does
        /// not compare it. 2 by default.
        public var failureRatio: Double? = 2
        /// Maximum time until the first frame, as a multiple of the old version's (`latency_ratio`); `nil` does not
        /// compare it. 2 by default.
        public var latencyRatio: Double? = 2

        public init() {}
    }

    /// How failures in a row withdraw the route from the mesh.
    public struct ErrorMass: Sendable, Hashable {
        /// Failures in a row after which the route is withdrawn (`limit`); `nil` never withdraws it. 10 by default.
        public var limit: Int? = 10
        /// The first pause before the route returns (`pause`). 30 seconds by default.
        public var pause = Duration.seconds(30)
        /// Maximum pause (`max_pause`); the pause grows with further failures. 5 minutes by default.
        public var maxPause = Duration.seconds(300)

        public init() {}
    }
}
