internal import NIOCore
internal import Synchronization

/// Routes to hosts behind this node and behind other routers: forwarding, RST and direct paths (`docs/protocol.md` §3).
extension NodeCore {
    // MARK: - Forwarding

    /// Returns the link over which to forward an op from `link` to `host`.
    ///
    /// Returns `nil` if this node is not a router or has no direct link to the host. At most one router may be between
    /// two nodes.
    func route(from link: Link, to host: HostID) -> Link? {
        guard configuration.role == .router else { return nil }
        return shared.withLockedValue { shared in
            guard shared.links.peers.host(of: link.id) != nil,
                let id = shared.links.peers.link(to: host, preferring: shared.links.talkers[link.id] ?? []),
                let way = shared.links.up[id]
            else { return nil }
            // When one of the two is lost, the other one receives an RST.
            shared.links.talkers[id, default: []].insert(link.id)
            shared.links.talkers[link.id, default: []].insert(id)
            for used in [link, way] { used.hasForwarded.store(true, ordering: .relaxed) }
            return way
        }
    }

    /// Sends RST to all hosts that have talked to `host` over the lost link through this node.
    ///
    /// The offers of the host are withdrawn separately, and only if no other link leads to it. If they were withdrawn
    /// here as well, these ops would wait behind ops to be forwarded, and could arrive after the separate ones.
    func resetTalkers(with host: HostID, over lost: LinkID, _ shared: inout Shared) {
        guard let talkers = shared.links.talkers.removeValue(forKey: lost) else { return }
        for id in talkers {
            shared.links.talkers[id]?.remove(lost)
            if shared.links.talkers[id]?.isEmpty == true { shared.links.talkers[id] = nil }
            guard let link = shared.links.up[id], let peer = shared.links.peers.host(of: id), peer != host else {
                continue
            }
            var ops = ByteBuffer()
            ops.writeReset(of: host, to: peer)
            // RST queues behind the ops to be forwarded, so that streams that ended well before are not failed.
            if link.forward(ops, from: nil, isUrgent: true) == .full {
                link.sendControl { $0.writeImmutableBuffer(ops) }
            }
        }
    }

    /// Returns other links to `host` than `link`, at most `count` of them.
    func links(to host: HostID, except link: Link, atMost count: Int) -> [Link] {
        shared.withLockedValue { shared in
            shared.links.peers.links(to: host).lazy.filter { $0 != link.id }.prefix(count).compactMap {
                shared.links.up[$0]
            }
        }
    }

    // MARK: - Direct paths

    /// Asks a host behind a router for its addresses (DISCOVER).
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

    /// Handles the loss of the last direct link to `host`. If a router still offers the host, asks it for its addresses
    /// again.
    func rediscover(_ host: HostID, _ shared: inout Shared) {
        guard shared.offers.registry.isRelayed(host),
            let router = shared.offers.registry.router(of: host).flatMap({ shared.links.up[$0] })
        else { return }
        discover(host, over: router, &shared)
    }

    /// Repeats DISCOVER to the hosts that still have no direct link.
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

    /// Stops DISCOVER for hosts that no router offers any more.
    ///
    /// - Returns: these hosts.
    func forgetUnheard(_ removals: [ServiceRegistry.Removal], _ shared: inout Shared) -> [HostID] {
        var hostsWithoutOffers: Set<HostID> = []
        for removal in removals
        where removal.offer.isRelayed && !shared.offers.registry.isRelayed(removal.offer.address.host) {
            hostsWithoutOffers.insert(removal.offer.address.host)
        }
        for host in hostsWithoutOffers { shared.offers.discovery.forget(host) }
        return Array(hostsWithoutOffers)
    }

    /// Answers DISCOVER with the addresses at which this node accepts links.
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

    /// Whether to accept a FOLLOW from `host`.
    func believesFollow(from host: HostID) -> Bool {
        configuration.role.joinsOthers && host != id
            && shared.withLockedValue { $0.offers.discovery.hasAsked(host) && !$0.links.peers.isLinked(to: host) }
    }

    func isLinked(to host: HostID) -> Bool {
        shared.withLockedValue { $0.links.peers.isLinked(to: host) }
    }
}
