extension HostConfiguration.Node {
    /// What a node does for others (`docs/protocol.md` §3).
    public enum Role: String, Sendable, CaseIterable {
        /// Uses what others offer and announces nothing, so that it cannot have routes.
        case client
        /// Offers its routes, over the links it was told to join and those that others make.
        case server
        /// A server that also makes links of its own to hosts it hears of through a router.
        case peer
        /// A peer that also passes on what its direct peers offer, and the streams between them.
        case router
    }

    /// What others may make a node hold. Past a limit the newest is refused and the rest goes on.
    public struct Limits: Sendable, Hashable {
        /// Links to other nodes (`links`). 65,536 by default.
        public var links = 65_536
        /// Streams of one link (`streams`). 1,048,576 by default.
        public var streams = 1 << 20
        /// Accepted dials of one link that wait for their dialer (`half_open`). 65,536 by default.
        public var halfOpen = 65_536
        /// Services that one link may bring (`services`). 262,144 by default.
        public var services = 1 << 18
        /// Bytes of one link that were received and not read yet, or are to be forwarded (`buffer`). 256 MiB by default.
        public var buffer = 256 << 20
        /// The same for all links together (`total_buffer`). 1 GiB by default.
        public var totalBuffer = 1 << 30

        public init() {}
    }
}
