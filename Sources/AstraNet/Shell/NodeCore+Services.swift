internal import NIOCore

/// What is bound here, what others offer, and who is told of it.
extension NodeCore {
    // MARK: - Bound here

    /// Binds a name to a fresh port and announces it.
    func bind(
        _ name: String, visibility: Listener.Visibility, answersSoon: Bool,
        onStream: (@Sendable (Stream) -> Acceptance)? = nil
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

    /// Withdraws a name.
    func unbind(_ listener: Listener) {
        shared.withLockedValue { shared in
            if shared.bound.remove(listener) { announce(.noService, of: listener, &shared) }
        }
    }

    /// Whom a DIAL from `remote` over `link` reaches at `port`; `nil` where that is nobody.
    func listener(on port: UInt32, for remote: HostID, over link: Link) -> Listener? {
        guard let listener = shared.withLockedValue({ $0.bound.listeners[port] }) else { return nil }
        guard let way = listener.visibility.way else { return listener }
        // A name that was told to one peer is not for others, who may guess its port.
        // Over another link to the same host it may come all the same: who claims to be behind one may not.
        let isTheirs = way.host == remote && (way.link == link.id || link.peer?.host == remote)
        return isTheirs ? listener : nil
    }

    /// Whether names were told over `link` to one peer alone: sources that are still to be fetched.
    func hasScopedNames(on link: Link) -> Bool {
        shared.withLockedValue { $0.bound.scoped.keys.contains { $0.link == link.id } }
    }

    /// Hands a stream to the listener of its port.
    func accept(_ stream: Stream) -> Acceptance {
        let listener = shared.withLockedValue { $0.bound.listeners[stream.localPort] }
        return listener?.accept(stream) ?? .refused("nobody listens on \(stream.localAddress)")
    }

    // MARK: - Who is told

    /// Tells those whom it concerns, under the lock, so that a SERVICE is never overtaken by its NO_SERVICE.
    private func announce(_ command: Command, of listener: Listener, _ shared: inout Shared) {
        switch listener.visibility {
        case .everybody:
            guard configuration.role.announces else { return }
            for link in shared.links.up.values {
                link.announce(command, listener.name, at: listener.address)
            }
        case .peer(let way):
            guard let link = shared.links.up[way.link] else { return }
            // Addressed to the host, a router passes it on to that host alone, as it does with every op.
            let isDirect = shared.links.peers.host(of: way.link) == way.host
            // It is told to the peer over this link, behind the announcement, and withdrawn when it was fetched.
            link.announce(
                command, listener.name, at: listener.address, to: isDirect ? .peer : way.host, isPatient: true)
        }
    }

    /// Tells a new link of all there is.
    func announceAll(to link: Link, peer: HostID, _ shared: inout Shared) {
        guard configuration.role.announces else { return }
        let own = shared.bound.listeners.values.filter { $0.visibility == .everybody }
        let others = configuration.role == .router ? shared.offers.registry.directOffers(except: peer) : []
        guard !own.isEmpty || !others.isEmpty else { return }
        link.announce(.service, all: own.lazy.map { ($0.name, $0.address) })
        link.announce(.service, all: others.lazy.map { ($0.name, $0.address) })
    }

    /// A router passes on what its direct peers offer to all others (protocol section 3).
    private func relay(_ command: Command, _ offer: ServiceOffer, _ shared: inout Shared) {
        guard configuration.role == .router, !offer.isRelayed else { return }
        for id in shared.links.peers.links(except: offer.address.host) {
            shared.links.up[id]?.announce(command, offer.name, at: offer.address)
        }
    }

    func relay(withdrawn removals: [ServiceRegistry.Removal], _ shared: inout Shared) {
        for removal in removals where removal.isLast { relay(.noService, removal.offer, &shared) }
    }

    /// About so many announcements are made while the lock is held: less than a millisecond.
    private static let withdrawnAtOnce = 1_024

    /// Withdraws what came over a link that is gone, in pieces: for a quarter of a million services it takes tenths of a second, and
    /// nobody else would get anything done meanwhile.
    ///
    /// - Returns: the hosts of which nobody speaks any more.
    func withdraw(_ gone: ServiceRegistry.Gone, from link: Link) -> [HostID] {
        let listeners = configuration.role == .router ? linkCount : 0
        var unheard: [HostID] = []
        gone.inPieces(of: max(1, Self.withdrawnAtOnce / (1 + listeners))) { offers in
            unheard += shared.withLockedValue { shared in
                let removals = shared.offers.registry.drop(offers, from: link.id)
                relay(withdrawn: removals, &shared)
                return forgetUnheard(removals, &shared)
            }
        }
        return unheard
    }

    // MARK: - Offered elsewhere

    /// SERVICE. `false` when the link has brought too many.
    ///
    /// - Parameter isTold: whether it was addressed to this node alone.
    func add(_ offer: ServiceOffer, from link: Link, isTold: Bool) -> Bool {
        let (result, waiters) = shared.withLockedValue { shared in
            let result = shared.offers.registry.add(
                offer, from: link.id, limit: configuration.maximumServicesPerLink, isTold: isTold)
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

    /// NO_SERVICE.
    func remove(_ offer: ServiceOffer, from link: Link) {
        let unheard = shared.withLockedValue { shared -> [HostID] in
            guard let removal = shared.offers.registry.remove(offer, from: link.id) else { return [] }
            relay(withdrawn: [removal], &shared)
            return forgetUnheard([removal], &shared)
        }
        watchers.changed()
        unfollow(unheard)
    }

    /// RST: a router said that it can no longer reach `host`.
    func routeLost(to host: HostID, over link: Link) {
        let (unheard, orphans, waiters) = shared.withLockedValue { shared in
            let removals = shared.offers.registry.remove(toldBy: host, over: link.id)
            relay(withdrawn: removals, &shared)
            let unheard = forgetUnheard(removals, &shared)
            let way = Way(host: host, link: link.id)
            return (unheard, shared.bound.listeners(scopedTo: { $0 == way }), shared.offers.takeWaiters { $0 == way })
        }
        watchers.changed()
        unfollow(unheard)
        for listener in orphans { listener.withdraw() }
        for waiter in waiters { waiter.resume(.gone) }
    }

    /// Whether somebody offers `name` now.
    func hasOffer(of name: String) -> Bool {
        shared.withLockedValue { $0.offers.registry.hasOffer(of: name) }
    }

    /// Picks an offer of `name` now; `nil` when there is none but the refused ones.
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
                leaving: shared.offers.registry.leaving, avoiding: { shared.offers.penalties.isAvoided($0, now: now) })
            guard let route, let link = shared.links.up[shared.preferredLink(for: route)] else { return .success(nil) }
            return .success((link, route.offer, candidates.count <= refused.count + 1))
        }
        return try result.get()
    }

    /// A dial of `address` failed in a way that speaks against it.
    func penalize(_ address: Address) {
        shared.withLockedValue { $0.offers.penalties.failed(address, now: now) }
    }

    func forgive(_ address: Address) {
        shared.withLockedValue { shared in
            if !shared.offers.penalties.isEmpty { shared.offers.penalties.succeeded(address) }
        }
    }

    /// Waits until somebody offers `name`; returns at once where somebody does.
    ///
    /// - Parameter way: when this one is gone there is nothing to wait for.
    /// - Throws: ``AstraNetError`` with code `deadlineExceeded`, `linkLost` or `closed`; `CancellationError`.
    func waitForOffer(of name: String, from way: Way?, deadline: ContinuousClock.Instant) async throws {
        let instant = surroundings.deadline(deadline, on: timers)
        while true {
            let (result, id) = shared.withLockedValue { shared -> (Result<Void, AstraNetError>?, UInt32) in
                (shared.offerState(of: name, from: way), shared.offers.takeWaiterID())
            }
            if let result { return try result.get() }
            let place = WaitForOffer(wait: OfferWait(core: self, name: name, way: way))
            switch await suspend(in: place, id: id, within: deadlines, until: instant) {
            case .ready: continue
            case .gone: throw isClosed ? AstraNetError(.closed, "the node is closed") : Self.wayGone
            case .expired: throw AstraNetError(.deadlineExceeded, "nobody offers '\(name)'")
            case .cancelled: throw CancellationError()
            }
        }
    }
}

/// A wait for an offer of a name. On the heap: a wait for a host to come is rare and long.
private final class OfferWait: Sendable {
    let core: NodeCore
    let name: String
    /// The wait is over when the way to this peer is gone, if any.
    let way: NodeCore.Way?

    init(core: NodeCore, name: String, way: NodeCore.Way?) {
        self.core = core
        self.name = name
        self.way = way
    }
}

/// Where a dial waits for an offer.
private struct WaitForOffer: WaitPlace {
    let wait: OfferWait

    func put(_ waiter: Waiter) -> Bool {
        wait.core.shared.withLockedValue { shared in
            guard shared.offerState(of: wait.name, from: wait.way) == nil else { return false }
            shared.offers.wait(for: wait.name, waiter, way: wait.way)
            return true
        }
    }

    func takeWaiter(_ id: UInt32) -> Waiter? {
        wait.core.shared.withLockedValue { $0.offers.takeWaiter(id, for: wait.name) }
    }
}

extension NodeCore.Shared {
    /// The end of a wait for an offer of `name`; `nil` while there is none.
    fileprivate func offerState(of name: String, from way: NodeCore.Way?) -> Result<Void, AstraNetError>? {
        if isClosed { return .failure(AstraNetError(.closed, "the node is closed")) }
        if offers.registry.hasOffer(of: name) { return .success(()) }
        if let way, links.up[way.link] == nil { return .failure(NodeCore.wayGone) }
        return nil
    }
}

extension NodeCore.Shared {
    /// The link to dial a route over: of several that lead to its host or its router, the one that stays.
    fileprivate func preferredLink(for route: ServiceRegistry.Route) -> NodeCore.LinkID {
        let preferred = links.peers.host(of: route.link).flatMap { links.peers.link(to: $0) } ?? route.link
        return offers.registry.leaving.contains(preferred) ? route.link : preferred
    }
}
