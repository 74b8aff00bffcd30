internal import NIOCore
internal import Synchronization

/// The way to hosts behind this node and behind others: forwarding, resets, direct paths (protocol section 3).
extension NodeCore {
    // MARK: - Forwarding

    /// The link to forward an op over that came from `link` and is for `host`; `nil` where this node does not forward or has
    /// no link there: one router between two nodes is the limit.
    func route(from link: Link, to host: HostID) -> Link? {
        guard configuration.role == .router else { return nil }
        return shared.withLockedValue { shared in
            guard shared.links.peers.host(of: link.id) != nil,
                let id = shared.links.peers.link(to: host, preferring: shared.links.talkers[link.id] ?? []),
                let way = shared.links.up[id]
            else { return nil }
            // Both ends are told when the other is lost.
            shared.links.talkers[id, default: []].insert(link.id)
            shared.links.talkers[link.id, default: []].insert(id)
            for used in [link, way] { used.hasForwarded.store(true, ordering: .relaxed) }
            return way
        }
    }

    /// The link `lost` to `host` is gone: tells all who talked to it over that link through this node that their streams are,
    /// too. What it offers is withdrawn apart from this, and only where no other link leads there: said here as well, it could
    /// come behind its own withdrawal, which does not wait for what is to be forwarded.
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
            // Behind what is still to be forwarded: a stream that ended well before stays one.
            if link.forward(ops, from: nil, isUrgent: true) == .full {
                link.sendControl { $0.writeImmutableBuffer(ops) }
            }
        }
    }

    /// Other links to `host` than `link`, of many some.
    func links(to host: HostID, except link: Link, atMost count: Int) -> [Link] {
        shared.withLockedValue { shared in
            shared.links.peers.links(to: host).lazy.filter { $0 != link.id }.prefix(count).compactMap {
                shared.links.up[$0]
            }
        }
    }

    // MARK: - Direct paths

    /// Asks a host that was heard of through a router where it can be reached.
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

    /// The last direct link to `host` is gone: where a router speaks of it, the host is asked anew.
    func rediscover(_ host: HostID, _ shared: inout Shared) {
        guard shared.offers.registry.isRelayed(host),
            let router = shared.offers.registry.router(of: host).flatMap({ shared.links.up[$0] })
        else { return }
        discover(host, over: router, &shared)
    }

    /// Asks again those that are still out of direct reach.
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

    /// Hosts nobody speaks of any more need no direct path.
    ///
    /// - Returns: these hosts.
    func forgetUnheard(_ removals: [ServiceRegistry.Removal], _ shared: inout Shared) -> [HostID] {
        var unheard: Set<HostID> = []
        for removal in removals
        where removal.offer.isRelayed && !shared.offers.registry.isRelayed(removal.offer.address.host) {
            unheard.insert(removal.offer.address.host)
        }
        for host in unheard { shared.offers.discovery.forget(host) }
        return Array(unheard)
    }

    /// DISCOVER: where this node can be reached.
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

    /// FOLLOW: whether to believe that `host` can be reached there.
    func believesFollow(from host: HostID) -> Bool {
        configuration.role.joinsOthers && host != id
            && shared.withLockedValue { $0.offers.discovery.hasAsked(host) && !$0.links.peers.isLinked(to: host) }
    }

    func isLinked(to host: HostID) -> Bool {
        shared.withLockedValue { $0.links.peers.isLinked(to: host) }
    }
}
