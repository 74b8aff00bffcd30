/// A snapshot of a node's links and of the services that it knows.
public struct MeshListing: Sendable, Hashable {
    /// A link to another node.
    public struct Link: Sendable, Hashable {
        /// The host id of the peer.
        public var peer: HostID
        /// The name of the peer for people; `nil` if it has none.
        public var name: String?
        /// The `ip:port` of the peer; empty if the link is not a socket with an address.
        public var address: String
        /// Whether this node dialled the link.
        public var isDialled: Bool
        /// The shortest measured round trip; `nil` before the first measurement.
        public var roundTrip: Duration?
        /// The number of bytes that the peer makes this node buffer.
        public var bufferedBytes: Int
    }

    /// A service that another host offers.
    public struct Service: Sendable, Hashable {
        /// The offer.
        public var offer: ServiceOffer
        /// The peer of the link that brought the offer: the offering host itself, or a router.
        public var via: HostID
    }

    /// Counts of what the node refused because of its limits and access rules, since its start.
    public struct Refused: Sendable, Hashable {
        /// Connections above `maximumLinks`.
        public var links = 0
        /// SERVICE ops above `maximumServicesPerLink`.
        public var services = 0
        /// Dials above `maximumStreamsPerLink`, `maximumHalfOpenPerLink` or `maximumBacklog`.
        public var streams = 0
        /// Streams that failed because `maximumBufferedPerLink` or `maximumBuffered` was reached.
        public var overfull = 0
        /// Connections that were not secured: without TLS, or without a valid certificate.
        public var insecure = 0
        /// Links that claimed the id of a host with another identity.
        public var forgedHosts = 0
        /// Ops of other hosts that the access rules do not allow.
        public var forgedOps = 0
        /// SERVICE ops that the access rules do not allow.
        public var forbiddenServices = 0

        package init(
            links: Int = 0, services: Int = 0, streams: Int = 0, overfull: Int = 0, insecure: Int = 0,
            forgedHosts: Int = 0, forgedOps: Int = 0, forbiddenServices: Int = 0
        ) {
            self.links = links
            self.services = services
            self.streams = streams
            self.overfull = overfull
            self.insecure = insecure
            self.forgedHosts = forgedHosts
            self.forgedOps = forgedOps
            self.forbiddenServices = forbiddenServices
        }
    }

    /// All links whose handshake is complete, ordered by peer.
    public var links: [Link]
    /// All services that other nodes offer, ordered by name.
    public var services: [Service]
    /// Counts of what the node refused.
    public var refused: Refused
}

extension Node {
    /// A snapshot of the links and services that this node knows now.
    public var listing: MeshListing {
        let (links, routes, peers) = core.directory.listing
        return MeshListing(
            links: links.compactMap { link in
                guard let peer = peers.host(of: link.id) else { return nil }
                let nanoseconds = link.roundTrip.load(ordering: .relaxed)
                return MeshListing.Link(
                    peer: peer, name: link.peerName.withLockedValue { $0 },
                    address: link.channel.remoteAddress?.printed ?? "", isDialled: link.isDialled,
                    roundTrip: nanoseconds == 0 ? nil : .nanoseconds(Int64(clamping: nanoseconds)),
                    bufferedBytes: link.buffered.held)
            }.sorted { ($0.peer.description, $0.address) < ($1.peer.description, $1.address) },
            services: ServiceRegistry.ordered(routes).compactMap { route in
                peers.host(of: route.link).map { MeshListing.Service(offer: route.offer, via: $0) }
            },
            refused: refused)
    }

    /// Counts of what this node has refused.
    public var refused: MeshListing.Refused {
        let counters = core.counters
        return MeshListing.Refused(
            links: counters.refusedLinks.load(ordering: .relaxed),
            services: counters.refusedServices.load(ordering: .relaxed),
            streams: counters.refusedStreams.load(ordering: .relaxed),
            overfull: counters.overfullStreams.load(ordering: .relaxed),
            insecure: counters.insecureConnections.load(ordering: .relaxed),
            forgedHosts: counters.forgedHosts.load(ordering: .relaxed),
            forgedOps: counters.forgedOps.load(ordering: .relaxed),
            forbiddenServices: counters.forbiddenServices.load(ordering: .relaxed))
    }
}
