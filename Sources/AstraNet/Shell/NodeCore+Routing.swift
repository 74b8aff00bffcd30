internal import NIOCore
internal import Synchronization

/// Routing: forwarding, resets and discovery of direct paths (`docs/protocol.md` §3).
extension NodeCore {
    // MARK: - Forwarding

    /// Returns the link to which ops from `link` for `host` are forwarded.
    ///
    /// It is `nil` if this node is not a router or has no link to `host`. There is at most one router between two
    /// nodes.
    ///
    /// - Parameter hasStreams: whether the ops belong to streams, which must end when one of the two links is lost.
    func route(from link: Link, to host: HostID, hasStreams: Bool) -> Link? {
        guard configuration.role == .router else { return nil }
        return shared.withLockedValue { shared in
            guard shared.links.peers.host(of: link.id) != nil,
                let id = shared.links.peers.link(to: host, preferring: shared.links.forwardingPeers[link.id] ?? []),
                let target = shared.links.up[id]
            else { return nil }
            guard hasStreams else { return target }
            shared.links.forwardingPeers[id, default: []].insert(link.id)
            shared.links.forwardingPeers[link.id, default: []].insert(id)
            for used in [link, target] { used.hasForwarded.store(true, ordering: .relaxed) }
            return target
        }
    }

    /// Ends the streams between `host` and the hosts that exchanged ops with it over the lost link.
    ///
    /// This node does not know over which of several links to a host a stream was opened, and a Go node ends its
    /// streams without telling the other end. So both hosts get an RST, over all their links.
    ///
    /// The offers of `host` are withdrawn elsewhere, and only if there is no other link to it. NO_SERVICE is not sent
    /// here: behind forwarded ops it could arrive after a later SERVICE of the same name.
    func resetForwardedStreams(with host: HostID, over lost: LinkID, _ shared: inout Shared) {
        guard let forwardingPeers = shared.links.forwardingPeers.removeValue(forKey: lost) else { return }
        for id in forwardingPeers {
            shared.links.forwardingPeers[id]?.remove(lost)
            if shared.links.forwardingPeers[id]?.isEmpty == true { shared.links.forwardingPeers[id] = nil }
        }
        for peer in Set(forwardingPeers.compactMap { shared.links.peers.host(of: $0) }) where peer != host {
            reset(host, at: peer, &shared)
            reset(peer, at: host, &shared)
        }
    }

    /// Sends the RST of `host` over all links to `peer`.
    private func reset(_ host: HostID, at peer: HostID, _ shared: inout Shared) {
        var ops = ByteBuffer()
        ops.writeReset(of: host, to: peer)
        for link in shared.links.peers.links(to: peer).compactMap({ shared.links.up[$0] }) {
            // RST is queued behind forwarded ops, so that a stream that ended without an error before does not fail.
            if link.forward(ops, from: nil, isUrgent: true) == .full {
                link.sendControl { $0.writeImmutableBuffer(ops) }
            }
        }
    }

    /// Returns up to `count` links to `host` other than `link`.
    func links(to host: HostID, except link: Link, atMost count: Int) -> [Link] {
        shared.withLockedValue { shared in
            shared.links.peers.links(to: host).lazy.filter { $0 != link.id }.prefix(count).compactMap {
                shared.links.up[$0]
            }
        }
    }

    // MARK: - Direct paths

    /// Sends DISCOVER to the host of a relayed offer, unless this node has a direct link to it.
    func discover(_ offer: ServiceOffer, from link: Link, _ shared: inout Shared) {
        guard offer.name.hasSuffix(configuration.environmentSuffix) else { return }
        discover(offer.address.host, over: link, &shared)
    }

    private func discover(_ host: HostID, over link: Link, _ shared: inout Shared) {
        guard configuration.role.joinsOthers, host != id, !shared.links.peers.isLinked(to: host),
            shared.offers.discovery.heard(of: host, over: link.id, now: now)
        else { return }
        link.sendControl {
            $0.writeOp(OpHeader(.discover, to: Address(host: host, port: 0), from: self.address(port: 0)))
        }
    }

    /// Sends DISCOVER again to a host whose last direct link is lost, if a router relays its offers.
    func rediscover(_ host: HostID, _ shared: inout Shared) {
        guard shared.offers.registry.isRelayed(host),
            let router = shared.offers.registry.router(of: host).flatMap({ shared.links.up[$0] })
        else { return }
        discover(host, over: router, &shared)
    }

    /// Repeats DISCOVER for hosts that have no direct link yet.
    func discoverAgain() {
        guard configuration.role.joinsOthers else { return }
        shared.withLockedValue { shared in
            for host in shared.offers.discovery.due(now: now, atMost: 64) {
                guard !shared.links.peers.isLinked(to: host),
                    let link = shared.offers.registry.router(of: host).flatMap({ shared.links.up[$0] })
                else {
                    shared.offers.discovery.forget(host)
                    continue
                }
                link.sendControl {
                    $0.writeOp(OpHeader(.discover, to: Address(host: host, port: 0), from: self.address(port: 0)))
                }
            }
        }
    }

    /// Stops the discovery of hosts of which no relayed offer is left.
    ///
    /// - Returns: these hosts.
    func stopDiscovery(_ removals: [ServiceRegistry.Removal], _ shared: inout Shared) -> [HostID] {
        var unknownHosts: Set<HostID> = []
        for removal in removals
        where removal.offer.isRelayed && !shared.offers.registry.isRelayed(removal.offer.address.host) {
            unknownHosts.insert(removal.offer.address.host)
        }
        for host in unknownHosts { shared.offers.discovery.forget(host) }
        return Array(unknownHosts)
    }

    /// Answers DISCOVER with a FOLLOW for each address of this node.
    func answerDiscover(from host: HostID, over link: Link) {
        guard configuration.role.announces else { return }
        let addresses = shared.withLockedValue { $0.offers.ownAddresses.all }
        link.sendControl { ops in
            for address in addresses {
                ops.writeOp(
                    OpHeader(.follow, to: Address(host: host, port: 0), from: self.address(port: 0)), text: address)
            }
        }
    }

    /// Returns whether this node acts on a FOLLOW of `host`: it sent DISCOVER to the host and has no link to it.
    func believesFollow(from host: HostID) -> Bool {
        configuration.role.joinsOthers && host != id
            && shared.withLockedValue { $0.offers.discovery.hasAsked(host) && !$0.links.peers.isLinked(to: host) }
    }

    func isLinked(to host: HostID) -> Bool {
        shared.withLockedValue { $0.links.peers.isLinked(to: host) }
    }
}
