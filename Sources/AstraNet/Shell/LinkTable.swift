internal import NIOCore
internal import Synchronization

/// The links of a node, the hosts at their other ends, and the routes between them (`docs/protocol.md` §3).
///
/// It has no lock. ``MeshDirectory`` owns it and uses it under its own lock. It queues ops on links, which wait for
/// nothing.
struct LinkTable {
    typealias LinkID = ServiceRegistry.LinkID

    private let localHost: HostID
    private let role: NodeConfiguration.Role
    /// Links that have completed the handshake.
    private var up: [LinkID: Link] = [:]
    /// Links that have not completed the handshake.
    private var handshaking: [LinkID: Link] = [:]
    private(set) var peers: PeerTable
    private var forwarding = ForwardingRelation()
    private var owners = HostOwners()
    /// Links whose peer is silent (``Link/isSilent``). Dials prefer others.
    private var silent: Set<LinkID> = []
    private var lastID: LinkID = 0

    init(localHost: HostID, role: NodeConfiguration.Role) {
        self.localHost = localHost
        self.role = role
        peers = PeerTable(localHost: localHost)
    }

    /// Number of links, including those that have not completed the handshake.
    var count: Int { up.count + handshaking.count }

    /// Number of links that have completed the handshake.
    var upCount: Int { up.count }

    /// Links that have completed the handshake.
    var allUp: [Link] { Array(up.values) }

    var all: [Link] { Array(up.values) + Array(handshaking.values) }

    /// Returns the link with this ID; `nil` if it has not completed the handshake or is lost.
    subscript(id: LinkID) -> Link? { up[id] }

    /// Returns all links to `host`.
    func links(to host: HostID) -> [Link] {
        peers.links(to: host).compactMap { up[$0] }
    }

    /// Returns up to `count` links to `host` other than `link`.
    func links(to host: HostID, except link: Link, atMost count: Int) -> [Link] {
        peers.links(to: host).lazy.filter { $0 != link.id }.prefix(count).compactMap { up[$0] }
    }

    /// Returns the link to use instead of `link`. Of several links to the same host or router, it is the one that stays
    /// open.
    func preferred(to link: LinkID) -> LinkID {
        peers.host(of: link).flatMap { peers.link(to: $0) } ?? link
    }

    /// Returns the path over which names that a stream receives may be dialled. It has no link if the one of the stream
    /// is lost.
    func path(of hostLink: HostLink) -> NamePath {
        NamePath(host: hostLink.host, links: Set(peers.host(of: hostLink.link).map(peers.links(to:)) ?? []))
    }

    // MARK: - Changes

    mutating func takeID() -> LinkID {
        lastID += 1
        return lastID
    }

    /// Adds a connected link before its handshake.
    mutating func begin(_ link: Link) {
        handshaking[link.id] = link
    }

    /// Decides whether the peer of a new link may have a host id.
    ///
    /// - Returns: the links with this id that the caller must close, because they are of peers that no rule names. They
    ///   are removed already.
    /// - Throws: ``AstraNetError`` with code `insecure` if the host id belongs to another identity.
    mutating func claim(_ peer: HostID, by identity: LinkIdentity) throws(AstraNetError) -> [Link] {
        let others = links(to: peer)
        switch owners.claim(peer, by: identity, besides: others.map(\.identity)) {
        case .accepted:
            owners.record(identity, of: peer)
            return []
        case .refused:
            throw AstraNetError(.insecure, "the host id \(peer) belongs to another identity")
        case .displaces:
            owners.record(identity, of: peer)
            for other in others { _ = linkDown(other) }
            return others
        }
    }

    /// Forgets to whom the host ids belong, because the access rules have changed.
    mutating func forgetOwners() { owners.removeAll() }

    /// Records that the host id of a link belongs to its peer.
    mutating func recordOwner(of link: Link) {
        if let host = peers.host(of: link.id) { owners.record(link.identity, of: host) }
    }

    /// Adds a link after its handshake. If the result is a link to retire, the caller retires it.
    mutating func linkUp(_ link: Link, to peer: HostID) -> PeerTable.LinkUpResult {
        handshaking[link.id] = nil
        up[link.id] = link
        return peers.linkUp(link.id, to: peer, isDialled: link.isDialled)
    }

    /// Removes a lost link. Reinstates the retired link that replaces it, and ends the streams that this node forwarded
    /// over it.
    ///
    /// - Returns: the host at the other end if this was the last link to it; otherwise `nil`.
    mutating func linkDown(_ link: Link) -> HostID? {
        up[link.id] = nil
        handshaking[link.id] = nil
        silent.remove(link.id)
        guard let down = peers.linkDown(link.id) else { return nil }
        if let id = down.reinstated { up[id]?.reinstate() }
        resetForwardedStreams(with: down.host, over: link.id)
        return down.isLast ? down.host : nil
    }

    // MARK: - Silent peers

    /// Number of links whose peer is silent.
    var silentCount: Int { silent.count }

    func isSilent(_ link: LinkID) -> Bool { silent.contains(link) }

    mutating func setSilent(_ link: Link, _ isSilent: Bool) {
        if !isSilent {
            silent.remove(link.id)
        } else if up[link.id] != nil {
            silent.insert(link.id)
        }
    }

    // MARK: - Forwarding

    /// Returns the link to which ops from `link` for `host` are forwarded; `nil` if there is none.
    ///
    /// - Parameter hasStreams: whether the ops belong to streams, which must end when one of the two links is lost.
    mutating func route(from link: Link, to host: HostID, hasStreams: Bool) -> Link? {
        guard peers.host(of: link.id) != nil,
            let id = peers.link(to: host, preferring: forwarding.peers(of: link.id)), let target = up[id]
        else { return nil }
        guard hasStreams else { return target }
        forwarding.relate(link.id, id)
        for used in [link, target] { used.hasForwarded.store(true, ordering: .relaxed) }
        return target
    }

    /// Ends the streams between `host` and the hosts that exchanged ops with it over the lost link.
    ///
    /// This node does not know over which of several links to a host a stream was opened, and a Go node ends its
    /// streams without telling the other end. So both hosts get an RST, over all their links.
    ///
    /// The offers of `host` are withdrawn elsewhere, and only if there is no other link to it. NO_SERVICE is not sent
    /// here: behind forwarded ops it could arrive after a later SERVICE of the same name.
    private mutating func resetForwardedStreams(with host: HostID, over lost: LinkID) {
        let related = forwarding.remove(lost)
        for peer in Set(related.compactMap { peers.host(of: $0) }) where peer != host {
            reset(host, at: peer)
            reset(peer, at: host)
        }
    }

    /// Sends the RST of `host` over all links to `peer`.
    private func reset(_ host: HostID, at peer: HostID) {
        var ops = ByteBuffer()
        ops.writeReset(of: host, to: peer)
        for link in links(to: peer) {
            // RST is queued behind forwarded ops, so that a stream that ended without an error before does not fail.
            if link.forward(ops, from: nil, isUrgent: true) == .full {
                link.sendControl { $0.writeImmutableBuffer(ops) }
            }
        }
    }

    // MARK: - Announcements

    /// Announces a listener to the nodes of its visibility.
    func announce(_ command: Command, of listener: Listener) {
        switch listener.visibility {
        case .allNodes:
            guard role.announces else { return }
            for link in up.values {
                link.announce(command, listener.name, at: listener.address)
            }
        case .peer(let hostLink):
            guard let link = up[hostLink.link] else { return }
            // A router forwards an op with a destination host to that host only.
            let isDirect = peers.host(of: hostLink.link) == hostLink.host
            // No flush is needed: this node sends the name later on the same link, and withdraws it after the client
            // has dialled it.
            link.announce(
                command, listener.name, at: listener.address, to: isDirect ? .peer : hostLink.host, isDelayed: true)
        }
    }

    /// Passes an offer of a direct peer on to all other peers if this node is a router (`docs/protocol.md` §3).
    func relay(_ command: Command, _ offer: ServiceOffer) {
        guard role == .router, !offer.isRelayed else { return }
        for id in peers.links(except: offer.address.host) {
            up[id]?.announce(command, offer.name, at: offer.address)
        }
    }

    /// Sends DISCOVER to `host` over a link to its router.
    func sendDiscover(to host: HostID, over router: Link) {
        let ability: String
        switch router.directLinks {
        case .plain: ability = ""
        case .secured: ability = SecureAddress.ability
        // No address of the answer could be used.
        case .none: return
        }
        router.sendControl {
            $0.writeOp(
                OpHeader(.discover, to: Address(host: host, port: 0), from: Address(host: self.localHost, port: 0)),
                text: ability)
        }
    }
}
