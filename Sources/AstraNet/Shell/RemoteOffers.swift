internal import NIOCore

/// The offers of other nodes, the penalties after failed dials, the discovery of direct paths to the hosts of relayed
/// offers, and the dials that wait for an offer.
///
/// It has no lock. ``MeshDirectory`` owns it and uses it under its own lock.
struct RemoteOffers {
    typealias LinkID = ServiceRegistry.LinkID

    struct OfferWaiter {
        var waiter: Waiter
        /// Path whose loss ends the wait; `nil` if the wait does not depend on a path.
        var hostLink: HostLink?
    }

    typealias Pick = (link: Link, offer: ServiceOffer, isOnly: Bool)

    private let localHost: HostID
    private let configuration: NodeConfiguration
    private var registry = ServiceRegistry()
    private var penalties = OfferPenalties()
    private var discovery = Discovery()
    /// Links whose peer has sent GOAWAY. Dials prefer others.
    private var goingAway: Set<LinkID> = []
    /// Dials that wait for an offer, by service name.
    private var waiters: [String: [OfferWaiter]] = [:]
    private var lastWaiter: UInt32 = 0

    init(localHost: HostID, configuration: NodeConfiguration) {
        self.localHost = localHost
        self.configuration = configuration
    }

    // MARK: - Offers

    /// All offers in no order. An offer occurs once for each link that brought it.
    var routes: [ServiceRegistry.Route] { registry.routes }

    /// Returns the offers of `link`, and whether each was sent to this node only.
    func offers(of link: LinkID) -> [(offer: ServiceOffer, isPrivate: Bool)] { registry.offers(of: link) }

    /// Returns the number of offers from `link`.
    func count(on link: LinkID) -> Int { registry.count(on: link) }

    func hasOffer(of name: String, over path: NamePath?) -> Bool { registry.hasOffer(of: name, over: path) }

    /// Returns the direct offers, each once, without those of `host`.
    func directOffers(except host: HostID) -> Set<ServiceOffer> { registry.directOffers(except: host) }

    /// Adds an offer, relays it and asks its host for a direct path.
    ///
    /// - Parameter isPrivate: whether the offer was sent only to this node, through a router.
    /// - Returns: the result, and the dials that waited for the offer, which the caller resumes.
    mutating func add(
        _ offer: ServiceOffer, from link: Link, isPrivate: Bool, _ links: LinkTable, now: @autoclosure () -> UInt64
    ) -> (ServiceRegistry.AddResult, [OfferWaiter]) {
        let result = registry.add(
            offer, from: link.id, limit: configuration.maximumServicesPerLink, isPrivate: isPrivate)
        guard case .added(let isFirst) = result else { return (result, []) }
        if isFirst, !isPrivate { links.relay(.service, offer) }
        if offer.isRelayed, offer.name.hasSuffix(configuration.environmentSuffix) {
            discover(offer.address.host, over: link, links, now: now())
        }
        return (result, waiters.removeValue(forKey: offer.name) ?? [])
    }

    /// Removes an offer and relays its withdrawal.
    ///
    /// - Returns: the hosts of which no relayed offer is left.
    mutating func remove(_ offer: ServiceOffer, from link: Link, _ links: LinkTable) -> [HostID] {
        guard let removal = registry.remove(offer, from: link.id) else { return [] }
        return removed([removal], links)
    }

    /// Removes the offers that `host` announced over `link` to this node only.
    ///
    /// - Returns: the hosts of which no relayed offer is left.
    mutating func remove(privateTo host: HostID, over link: Link, _ links: LinkTable) -> [HostID] {
        removed(registry.remove(privateTo: host, over: link.id), links)
    }

    /// Begins to remove the offers of a lost link, which is not dialled any more. The caller removes them with
    /// ``drop(_:from:_:)`` and then calls ``hasLeft(_:)``.
    mutating func leaves(_ link: Link) -> ServiceRegistry.Gone { registry.leaves(link.id) }

    /// Removes some offers of a lost link and relays their withdrawal.
    ///
    /// - Returns: the hosts of which no relayed offer is left.
    mutating func drop(_ offers: [ServiceOffer], from link: Link, _ links: LinkTable) -> [HostID] {
        removed(registry.drop(offers, from: link.id), links)
    }

    /// Ends the removal of the offers of a lost link.
    mutating func hasLeft(_ link: Link) {
        registry.hasLeft(link.id)
        goingAway.remove(link.id)
    }

    /// Records that the peer of a link has sent GOAWAY.
    mutating func setGoingAway(_ link: Link) { goingAway.insert(link.id) }

    /// Relays withdrawals, and stops the discovery of hosts of which no relayed offer is left.
    ///
    /// - Returns: these hosts.
    private mutating func removed(_ removals: [ServiceRegistry.Removal], _ links: LinkTable) -> [HostID] {
        for removal in removals where removal.isLast { links.relay(.noService, removal.offer) }
        var unknownHosts: Set<HostID> = []
        for removal in removals where removal.offer.isRelayed && !registry.isRelayed(removal.offer.address.host) {
            unknownHosts.insert(removal.offer.address.host)
        }
        for host in unknownHosts { discovery.forget(host) }
        return Array(unknownHosts)
    }

    // MARK: - Selection

    /// Picks an offer as ``MeshDirectory/pickOffer(of:from:bucket:except:)`` describes.
    func pick(
        _ name: String, over path: NamePath?, bucket: String?, draw: UInt64, except refused: Set<Address>,
        _ links: LinkTable, now: UInt64
    ) -> Pick? {
        let candidates = registry.candidates(for: name)
        let route = OfferSelection.pick(
            among: candidates, name: name, over: path, bucket: bucket, draw: draw, except: refused,
            leaving: registry.leaving,
            goingAway: goingAway,
            avoiding: { penalties.isAvoided($0.offer.address, now: now) || isSilent($0, links) })
        guard let route, let link = links[preferredLink(for: route, links)] else { return nil }
        return (link, route.offer, candidates.count <= refused.count + 1)
    }

    /// Returns whether `name` is offered at another address than those of `failed`.
    ///
    /// - Parameter path: the only path that counts; `nil` for any.
    func hasOffer(of name: String, over path: NamePath?, except failed: Set<Address>) -> Bool {
        OfferSelection.pick(
            among: registry.candidates(for: name), name: name, over: path, bucket: nil, draw: 0, except: failed,
            leaving: registry.leaving) != nil
    }

    /// Returns whether a host that is not silent offers the service at `address` too.
    func hasBetterOffer(than address: Address, _ links: LinkTable) -> Bool {
        registry.names(at: address).contains { name in
            let route = OfferSelection.pick(
                among: registry.candidates(for: name), name: name, bucket: nil, draw: 0, except: [address],
                leaving: registry.leaving, avoiding: { isSilent($0, links) })
            return route.map { !isSilent($0, links) } ?? false
        }
    }

    /// Returns the link over which a route is dialled.
    private func preferredLink(for route: ServiceRegistry.Route, _ links: LinkTable) -> LinkID {
        let preferred = links.preferred(to: route.link)
        return registry.leaving.contains(preferred) ? route.link : preferred
    }

    private func isSilent(_ route: ServiceRegistry.Route, _ links: LinkTable) -> Bool {
        links.silentCount > 0 && links.isSilent(preferredLink(for: route, links))
    }

    mutating func penalize(_ address: Address, now: UInt64) { penalties.failed(address, now: now) }

    mutating func forgive(_ address: Address) {
        if !penalties.isEmpty { penalties.succeeded(address) }
    }

    func isPenalized(_ address: Address, now: UInt64) -> Bool { penalties.isAvoided(address, now: now) }

    // MARK: - Direct paths

    /// Whether `host` was asked for its addresses, so that its FOLLOW is an answer.
    func hasAsked(_ host: HostID) -> Bool { discovery.hasAsked(host) }

    /// Ends the discovery of `host`, because a link leads to it.
    mutating func found(_ host: HostID) { discovery.forget(host) }

    /// Sends DISCOVER to a host behind a router, unless this node has a direct link to it.
    private mutating func discover(
        _ host: HostID, over router: Link, _ links: LinkTable, now: @autoclosure () -> UInt64
    ) {
        guard configuration.role.joinsOthers, host != localHost, !links.peers.isLinked(to: host),
            discovery.heard(of: host, over: router.id, now: now())
        else { return }
        links.sendDiscover(to: host, over: router)
    }

    /// Sends DISCOVER again to a host whose last direct link is lost, if a router relays its offers.
    mutating func rediscover(_ host: HostID, _ links: LinkTable, now: @autoclosure () -> UInt64) {
        guard registry.isRelayed(host), let router = registry.router(of: host).flatMap({ links[$0] }) else { return }
        discover(host, over: router, links, now: now())
    }

    /// Repeats DISCOVER for hosts that have no direct link yet.
    mutating func discoverAgain(_ links: LinkTable, now: UInt64) {
        for host in discovery.due(now: now, atMost: 64) {
            guard !links.peers.isLinked(to: host), let router = registry.router(of: host).flatMap({ links[$0] }) else {
                discovery.forget(host)
                continue
            }
            links.sendDiscover(to: host, over: router)
        }
    }

    // MARK: - Waits

    /// Returns a new ID for a waiter.
    mutating func takeWaiterID() -> UInt32 {
        lastWaiter &+= 1
        return lastWaiter
    }

    mutating func wait(for name: String, _ waiter: Waiter, hostLink: HostLink?) {
        waiters[name, default: []].append(OfferWaiter(waiter: waiter, hostLink: hostLink))
    }

    mutating func takeWaiter(_ id: UInt32, for name: String) -> Waiter? {
        guard let index = waiters[name]?.firstIndex(where: { $0.waiter.id == id }) else { return nil }
        let waiting = waiters[name]?.remove(at: index)
        if waiters[name]?.isEmpty == true { waiters[name] = nil }
        return waiting?.waiter
    }

    /// Removes and returns the dials that depend on a lost path.
    mutating func takeWaiters(where isLost: (HostLink) -> Bool) -> [Waiter] {
        var taken: [Waiter] = []
        for (name, waiting) in waiters where waiting.contains(where: { $0.hostLink.map(isLost) ?? false }) {
            let (remaining, lost) = waiting.partitioned { $0.hostLink.map(isLost) ?? false }
            taken += lost.map(\.waiter)
            waiters[name] = remaining.isEmpty ? nil : remaining
        }
        return taken
    }

    /// Removes and returns all waiting dials.
    mutating func takeAllWaiters() -> [Waiter] {
        defer { waiters = [:] }
        return waiters.values.flatMap { $0.map(\.waiter) }
    }
}

extension Array {
    fileprivate func partitioned(by isSecond: (Element) -> Bool) -> (first: [Element], second: [Element]) {
        (filter { !isSecond($0) }, filter(isSecond))
    }
}
