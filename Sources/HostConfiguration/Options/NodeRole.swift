extension HostConfiguration.Node {
    /// What a node does for others (`docs/protocol.md` §3).
    public enum Role: String, Sendable, CaseIterable {
        /// Uses the services of other nodes and announces none, so it cannot have routes.
        case client
        /// Announces its routes. Uses the links that it is configured to join and the links that other nodes make.
        case server
        /// A server that also links directly with hosts that it learns of through a router.
        case peer
        /// A peer that also forwards the offers of its direct peers and the streams between them.
        case router
    }

    /// Limits on the resources that other nodes can use. Beyond a limit the newest link, dial or service is refused,
    /// and a stream that needs more buffer fails. Everything else continues.
    public struct Limits: Sendable, Hashable {
        /// Maximum links to other nodes (`links`). 65,536 by default.
        public var links = 65_536
        /// Maximum streams of one link (`streams`). 1,048,576 by default.
        public var streams = 1 << 20
        /// Maximum accepted dials of one link that the dialer has not acknowledged (`half_open`). 65,536 by default.
        public var halfOpen = 65_536
        /// Maximum services that are announced over one link (`services`). 262,144 by default.
        public var services = 1 << 18
        /// Maximum bytes of one link that are received and not read, or are to be forwarded (`buffer`). 256 MiB by
        /// default.
        public var buffer = 256 << 20
        /// Maximum of these bytes for all links together (`total_buffer`). 1 GiB by default.
        public var totalBuffer = 1 << 30
        /// Maximum bytes per second that are received from one link (`bytes_per_second`). `nil`, the default, is no
        /// limit.
        public var bytesPerSecond: Int?

        public init() {}
    }
}
