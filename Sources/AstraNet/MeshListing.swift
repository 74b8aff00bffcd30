/// What a node knows of the mesh at one moment.
public struct MeshListing: Sendable, Hashable {
    /// A link to another node.
    public struct Link: Sendable, Hashable {
        /// The host at the other end.
        public var peer: HostID
        /// The other end's `ip:port`; empty for what is no socket.
        public var address: String
        /// Whether this node made the connection.
        public var isDialled: Bool
        /// The shortest round trip; `nil` while none was measured.
        public var roundTrip: Duration?
        /// How many bytes the peer makes this node hold.
        public var bufferedBytes: Int
    }

    /// A service that some host offers.
    public struct Service: Sendable, Hashable {
        /// The offer.
        public var offer: ServiceOffer
        /// The host whose link it came over: the offering host itself, or a router.
        public var via: HostID
    }

    /// What was refused because of a limit, since the node's start.
    public struct Refused: Sendable, Hashable {
        /// Connections beyond `maximumLinks`.
        public var links = 0
        /// SERVICEs beyond `maximumServicesPerLink`.
        public var services = 0
        /// Dials beyond `maximumStreamsPerLink`, `maximumHalfOpenPerLink` or `maximumBacklog`.
        public var streams = 0
        /// Streams that failed because of `maximumBufferedPerLink` or `maximumBuffered`.
        public var overfull = 0
    }

    /// All links whose handshake is done, by peer.
    public var links: [Link]
    /// All that others offer, by name.
    public var services: [Service]
    /// What was refused.
    public var refused: Refused
}

extension Node {
    /// What this node knows of the mesh now.
    public var listing: MeshListing {
        let (links, routes, peers) = core.shared.withLockedValue { shared in
            (Array(shared.links.up.values), shared.offers.registry.routes, shared.links.peers)
        }
        let counters = core.counters
        return MeshListing(
            links: links.compactMap { link in
                guard let peer = peers.host(of: link.id) else { return nil }
                let nanoseconds = link.roundTrip.load(ordering: .relaxed)
                return MeshListing.Link(
                    peer: peer, address: link.channel.remoteAddress?.printed ?? "", isDialled: link.isDialled,
                    roundTrip: nanoseconds == 0 ? nil : .nanoseconds(Int64(clamping: nanoseconds)),
                    bufferedBytes: link.buffered.held)
            }.sorted { ($0.peer.description, $0.address) < ($1.peer.description, $1.address) },
            services: ServiceRegistry.ordered(routes).compactMap { route in
                peers.host(of: route.link).map { MeshListing.Service(offer: route.offer, via: $0) }
            },
            refused: MeshListing.Refused(
                links: counters.refusedLinks.load(ordering: .relaxed),
                services: counters.refusedServices.load(ordering: .relaxed),
                streams: counters.refusedStreams.load(ordering: .relaxed),
                overfull: counters.overfullStreams.load(ordering: .relaxed)))
    }
}
