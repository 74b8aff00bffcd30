internal import NIOCore

/// Services: the names that are bound on this node, the offers of other nodes, and their announcements.
extension NodeCore {
    // MARK: - Services of this node

    /// Binds a name to a fresh port and announces it.
    ///
    /// - Throws: ``AstraNetError`` with code `limitReached` (wrong length of the name), `serviceInUse` or `closed`.
    func bind(
        _ name: String, visibility: Listener.Visibility, answersSoon: Bool,
        onStream: (@Sendable (MeshStream) -> Acceptance)? = nil
    ) throws(AstraNetError) -> Listener {
        let fullName = configuration.fullName(name)
        guard !name.isEmpty, fullName.utf8.count <= configuration.maximumServiceName else {
            throw AstraNetError(
                .limitReached, "a service name has 1 to \(configuration.maximumServiceName) bytes: '\(name.prefix(64))'"
            )
        }
        let result = shared.withLockedValue { shared -> Result<Listener, AstraNetError> in
            guard !shared.isClosed else { return .failure(AstraNetError(.closed, "the node is closed")) }
            guard shared.bound.portsByName[fullName] == nil else {
                return .failure(AstraNetError(.serviceInUse, "'\(fullName)' is bound already"))
            }
            let listener = Listener(
                name: fullName, address: address(port: shared.bound.takePort()), visibility: visibility,
                answersSoon: answersSoon, node: self, onStream: onStream)
            shared.bound.add(listener)
            announce(.service, of: listener, &shared)
            return .success(listener)
        }
        return try result.get()
    }

    /// Unbinds a listener and withdraws its name.
    func unbind(_ listener: Listener) {
        shared.withLockedValue { shared in
            if shared.bound.remove(listener) { announce(.noService, of: listener, &shared) }
        }
    }

    /// Returns the listener for a DIAL of `port` that `remote` sent over `link`; `nil` if there is none for this
    /// dialer.
    func listener(on port: UInt32, for remote: HostID, over link: Link) -> Listener? {
        guard let listener = shared.withLockedValue({ $0.bound.listeners[port] }) else { return nil }
        guard let hostLink = listener.visibility.hostLink else { return listener }
        // Only the host to which a name was announced may dial it. Other hosts could guess its port. The host may use
        // another direct link. A DIAL that a router forwards must come over the announcing link, because a router may
        // forward a forged source.
        let isAllowed = hostLink.host == remote && (hostLink.link == link.id || link.peer?.host == remote)
        return isAllowed ? listener : nil
    }

    /// Returns whether names are bound that were announced over `link` to one host only: sources that the client has
    /// not dialled.
    func hasScopedNames(on link: Link) -> Bool {
        shared.withLockedValue { $0.bound.scoped.keys.contains { $0.link == link.id } }
    }

    /// Passes a stream to the listener of its port.
    func accept(_ stream: MeshStream) -> Acceptance {
        let listener = shared.withLockedValue { $0.bound.listeners[stream.localPort] }
        return listener?.accept(stream) ?? .refused("no listener at \(stream.localAddress)")
    }

    // MARK: - Announcements

    /// Announces a listener to the nodes of its visibility. The caller holds the lock, so that NO_SERVICE never
    /// overtakes the SERVICE before it.
    private func announce(_ command: Command, of listener: Listener, _ shared: inout Shared) {
        switch listener.visibility {
        case .allNodes:
            guard configuration.role.announces else { return }
            for link in shared.links.up.values {
                link.announce(command, listener.name, at: listener.address)
            }
        case .peer(let hostLink):
            guard let link = shared.links.up[hostLink.link] else { return }
            // A router forwards an op with a destination host to that host only.
            let isDirect = shared.links.peers.host(of: hostLink.link) == hostLink.host
            // No flush is needed: this node sends the name later on the same link, and withdraws it after the client
            // has dialled it.
            link.announce(
                command, listener.name, at: listener.address, to: isDirect ? .peer : hostLink.host, isDelayed: true)
        }
    }

    /// Announces to a new link all public services of this node, and on a router the direct offers of other peers.
    func announceAll(to link: Link, peer: HostID, _ shared: inout Shared) {
        guard configuration.role.announces else { return }
        let own = shared.bound.listeners.values.filter { $0.visibility == .allNodes }
        let others = configuration.role == .router ? shared.offers.registry.directOffers(except: peer) : []
        guard !own.isEmpty || !others.isEmpty else { return }
        link.announce(.service, all: own.lazy.map { ($0.name, $0.address) })
        link.announce(.service, all: others.lazy.map { ($0.name, $0.address) })
    }

    /// Passes an offer of a direct peer on to all other peers if this node is a router (`docs/protocol.md` §3).
    private func relay(_ command: Command, _ offer: ServiceOffer, _ shared: inout Shared) {
        guard configuration.role == .router, !offer.isRelayed else { return }
        for id in shared.links.peers.links(except: offer.address.host) {
            shared.links.up[id]?.announce(command, offer.name, at: offer.address)
        }
    }

    func relay(withdrawn removals: [ServiceRegistry.Removal], _ shared: inout Shared) {
        for removal in removals where removal.isLast { relay(.noService, removal.offer, &shared) }
    }

    /// Approximate number of announcements that are made while the lock is held. They take less than 1 ms.
    private static let withdrawalBatchSize = 1_024

    /// Withdraws the offers of a lost link in batches.
    ///
    /// The withdrawal of 250,000 services takes tenths of a second. In one batch it would block all other work of the
    /// node.
    ///
    /// - Returns: the hosts of which no relayed offer is left.
    func withdraw(_ gone: ServiceRegistry.Gone, from link: Link) -> [HostID] {
        let receivers = configuration.role == .router ? linkCount : 0
        var unknownHosts: [HostID] = []
        gone.inPieces(of: max(1, Self.withdrawalBatchSize / (1 + receivers))) { offers in
            unknownHosts += shared.withLockedValue { shared in
                let removals = shared.offers.registry.drop(offers, from: link.id)
                relay(withdrawn: removals, &shared)
                return stopDiscovery(removals, &shared)
            }
        }
        return unknownHosts
    }

    // MARK: - Offers of other nodes

    /// Handles SERVICE: adds an offer. Returns `false` if the link has announced too many offers.
    ///
    /// - Parameter isPrivate: whether the offer was sent only to this node, through a router.
    func add(_ offer: ServiceOffer, from link: Link, isPrivate: Bool) -> Bool {
        let (result, waiters) = shared.withLockedValue { shared in
            let result = shared.offers.registry.add(
                offer, from: link.id, limit: configuration.maximumServicesPerLink, isPrivate: isPrivate)
            guard case .added(let isFirst) = result else { return (result, [RemoteOffers.OfferWaiter]()) }
            if isFirst { relay(.service, offer, &shared) }
            if offer.isRelayed { discover(offer, from: link, &shared) }
            return (result, shared.offers.waiters.removeValue(forKey: offer.name) ?? [])
        }
        for waiting in waiters { waiting.waiter.resume() }
        if case .added = result { watchers.changed() }
        if result == .limitReached { counters.refusedServices.add(1, ordering: .relaxed) }
        return result != .limitReached
    }

    /// Handles NO_SERVICE: removes an offer.
    func remove(_ offer: ServiceOffer, from link: Link) {
        let unknownHosts = shared.withLockedValue { shared -> [HostID] in
            guard let removal = shared.offers.registry.remove(offer, from: link.id) else { return [] }
            relay(withdrawn: [removal], &shared)
            return stopDiscovery([removal], &shared)
        }
        watchers.changed()
        unfollow(unknownHosts)
    }

    /// Handles RST: a router has lost its link to `host`. Removes the private offers of that host and ends what depends
    /// on it.
    func routeLost(to host: HostID, over link: Link) {
        let (unknownHosts, orphans, waiters) = shared.withLockedValue { shared in
            let removals = shared.offers.registry.remove(privateTo: host, over: link.id)
            relay(withdrawn: removals, &shared)
            let unknownHosts = stopDiscovery(removals, &shared)
            let hostLink = HostLink(host: host, link: link.id)
            return (
                unknownHosts, shared.bound.listeners(scopedTo: { $0 == hostLink }),
                shared.offers.takeWaiters { $0 == hostLink }
            )
        }
        watchers.changed()
        unfollow(unknownHosts)
        for listener in orphans { listener.withdraw() }
        for waiter in waiters { waiter.resume(.gone) }
    }

    /// Returns whether a node offers `name` now.
    func hasOffer(of name: String) -> Bool {
        shared.withLockedValue { $0.offers.registry.hasOffer(of: name) }
    }

    /// Picks an offer of `name` without waiting.
    ///
    /// - Parameters:
    ///   - bucket: the bucket that selects the offer; `nil` for a random one.
    ///   - refused: the addresses that have already refused this dial. They are not picked.
    /// - Returns: the offer with its link, and whether no other offer remains to be tried; `nil` if there is no offer.
    /// - Throws: ``AstraNetError`` with code `closed`.
    func pickOffer(
        of name: String, bucket: String?, except refused: Set<Address>
    ) throws(AstraNetError) -> (link: Link, offer: ServiceOffer, isOnly: Bool)? {
        let draw = surroundings.random()
        let now = now
        let result = shared.withLockedValue { shared -> Result<(Link, ServiceOffer, Bool)?, AstraNetError> in
            guard !shared.isClosed else { return .failure(AstraNetError(.closed, "the node is closed")) }
            let candidates = shared.offers.registry.candidates(for: name)
            let route = OfferSelection.pick(
                among: candidates, name: name, bucket: bucket, draw: draw, except: refused,
                leaving: shared.offers.registry.leaving, avoiding: { shared.isAvoided($0, now: now) })
            guard let route, let link = shared.links.up[shared.preferredLink(for: route)] else { return .success(nil) }
            return .success((link, route.offer, candidates.count <= refused.count + 1))
        }
        return try result.get()
    }

    /// Returns whether another host than those of `failed` offers `name`.
    func hasOffer(of name: String, except failed: Set<Address>) -> Bool {
        shared.withLockedValue { shared in
            OfferSelection.pick(
                among: shared.offers.registry.candidates(for: name), name: name, bucket: nil, draw: 0, except: failed,
                leaving: shared.offers.registry.leaving) != nil
        }
    }

    /// Returns whether a host that is not silent offers the service at `address` too.
    func hasBetterOffer(than address: Address) -> Bool {
        shared.withLockedValue { shared in
            shared.offers.registry.names(at: address).contains { name in
                let route = OfferSelection.pick(
                    among: shared.offers.registry.candidates(for: name), name: name, bucket: nil, draw: 0,
                    except: [address], leaving: shared.offers.registry.leaving, avoiding: shared.isSilent)
                return route.map { !shared.isSilent($0) } ?? false
            }
        }
    }

    /// Records a failed dial of `address`, so that later dials avoid the address.
    func penalize(_ address: Address) {
        shared.withLockedValue { $0.offers.penalties.failed(address, now: now) }
    }

    /// Records a successful dial of `address`.
    func forgive(_ address: Address) {
        shared.withLockedValue { shared in
            if !shared.offers.penalties.isEmpty { shared.offers.penalties.succeeded(address) }
        }
    }

    /// Waits until a node offers `name`. Returns at once if one does.
    ///
    /// - Parameter hostLink: the path whose loss ends the wait with `linkLost`; `nil` for none.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, `linkLost` or `closed`; `CancellationError`.
    func waitForOffer(of name: String, from hostLink: HostLink?, deadline: ContinuousClock.Instant) async throws {
        let instant = surroundings.deadline(deadline, on: timers)
        while true {
            let (result, id) = shared.withLockedValue { shared -> (Result<Void, AstraNetError>?, UInt32) in
                (shared.offerState(of: name, from: hostLink), shared.offers.takeWaiterID())
            }
            if let result { return try result.get() }
            let place = WaitForOffer(wait: OfferWait(core: self, name: name, hostLink: hostLink))
            switch await suspend(in: place, id: id, within: deadlines, until: instant) {
            case .ready: continue
            case .gone: throw isClosed ? AstraNetError(.closed, "the node is closed") : Self.hostLinkLost
            case .expired: throw AstraNetError(.deadlineExceeded, "no node offers '\(name)'")
            case .cancelled: throw CancellationError()
            }
        }
    }
}

/// A wait for an offer of a name. It is on the heap because such waits are rare and long.
private final class OfferWait: Sendable {
    let core: NodeCore
    let name: String
    /// Path whose loss ends the wait; `nil` for none.
    let hostLink: NodeCore.HostLink?

    init(core: NodeCore, name: String, hostLink: NodeCore.HostLink?) {
        self.core = core
        self.name = name
        self.hostLink = hostLink
    }
}

/// The place where a dial waits for an offer.
private struct WaitForOffer: WaitPlace {
    let wait: OfferWait

    func put(_ waiter: Waiter) -> Bool {
        wait.core.shared.withLockedValue { shared in
            guard shared.offerState(of: wait.name, from: wait.hostLink) == nil else { return false }
            shared.offers.wait(for: wait.name, waiter, hostLink: wait.hostLink)
            return true
        }
    }

    func takeWaiter(_ id: UInt32) -> Waiter? {
        wait.core.shared.withLockedValue { $0.offers.takeWaiter(id, for: wait.name) }
    }
}

extension NodeCore.Shared {
    /// Returns the result of a wait for an offer of `name`; `nil` while the wait continues.
    fileprivate func offerState(of name: String, from hostLink: NodeCore.HostLink?) -> Result<Void, AstraNetError>? {
        if isClosed { return .failure(AstraNetError(.closed, "the node is closed")) }
        if offers.registry.hasOffer(of: name) { return .success(()) }
        if let hostLink, links.up[hostLink.link] == nil { return .failure(NodeCore.hostLinkLost) }
        return nil
    }
}

extension NodeCore.Shared {
    /// Returns the link over which a route is dialled. Of several links to the same host or router, it is the one that
    /// stays open.
    fileprivate func preferredLink(for route: ServiceRegistry.Route) -> NodeCore.LinkID {
        let preferred = links.peers.host(of: route.link).flatMap { links.peers.link(to: $0) } ?? route.link
        return offers.registry.leaving.contains(preferred) ? route.link : preferred
    }

    /// Whether a dial must prefer other routes: the latest dial failed, or the peer is silent.
    fileprivate func isAvoided(_ route: ServiceRegistry.Route, now: UInt64) -> Bool {
        offers.penalties.isAvoided(route.offer.address, now: now) || isSilent(route)
    }

    fileprivate func isSilent(_ route: ServiceRegistry.Route) -> Bool {
        !links.silent.isEmpty && links.silent.contains(preferredLink(for: route))
    }
}
