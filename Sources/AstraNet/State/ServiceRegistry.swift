/// An offer of a service by some host, as learnt over a link.
public struct ServiceOffer: Hashable, Sendable {
    /// The service's full name, environment suffix included.
    public var name: String
    /// Where to dial it.
    public var address: Address
    /// Whether it came through a router instead of from the host itself (protocol section 3).
    public var isRelayed: Bool
}

/// Who offers what: all SERVICEs learnt on all links (protocol section 3).
struct ServiceRegistry: Sendable {
    /// Tells links apart; handed out by the node.
    typealias LinkID = UInt64

    /// An offer together with the link to dial it over.
    struct Route: Hashable, Sendable {
        var link: LinkID
        var offer: ServiceOffer
    }

    private var routesByName: [String: [Route]] = [:]
    private var namesByLink: [LinkID: [String: Int]] = [:]

    enum AddResult: Hashable { case added, known, limitReached }

    /// SERVICE: `link` brought an offer. A link may bring at most `limit` of them.
    mutating func add(_ offer: ServiceOffer, from link: LinkID, limit: Int) -> AddResult {
        let route = Route(link: link, offer: offer)
        guard routesByName[offer.name]?.contains(route) != true else { return .known }
        guard count(on: link) < limit else { return .limitReached }
        routesByName[offer.name, default: []].append(route)
        namesByLink[link, default: [:]][offer.name, default: 0] += 1
        offerCounts[link, default: 0] += 1
        return .added
    }

    private var offerCounts: [LinkID: Int] = [:]

    /// How many offers came over `link`.
    func count(on link: LinkID) -> Int { offerCounts[link] ?? 0 }

    /// NO_SERVICE: the offer is no more.
    mutating func remove(_ offer: ServiceOffer, from link: LinkID) {
        guard var routes = routesByName[offer.name],
            let index = routes.firstIndex(of: Route(link: link, offer: offer))
        else { return }
        routes.remove(at: index)
        routesByName[offer.name] = routes.isEmpty ? nil : routes
        offerCounts[link, default: 0] -= 1
        if let left = namesByLink[link]?[offer.name] {
            namesByLink[link]?[offer.name] = left > 1 ? left - 1 : nil
        }
    }

    /// The link is gone, and all that came over it.
    mutating func removeAll(from link: LinkID) {
        offerCounts[link] = nil
        for name in (namesByLink.removeValue(forKey: link) ?? [:]).keys {
            routesByName[name]?.removeAll { $0.link == link }
            if routesByName[name]?.isEmpty == true { routesByName[name] = nil }
        }
    }

    /// A router lost `host`: its offers over `link` are no more.
    mutating func remove(host: HostID, from link: LinkID) {
        for name in (namesByLink[link] ?? [:]).keys {
            for route in routesByName[name] ?? [] where route.link == link && route.offer.address.host == host {
                remove(route.offer, from: link)
            }
        }
    }

    /// The offers of `name`, each host and port once: a direct one wins over a relayed one of the same (protocol
    /// section 3).
    func candidates(for name: String) -> [Route] {
        let routes = routesByName[name] ?? []
        guard routes.contains(where: \.offer.isRelayed) else { return routes }
        let direct = Set(routes.lazy.filter { !$0.offer.isRelayed }.map(\.offer.address))
        return routes.filter { !$0.offer.isRelayed || !direct.contains($0.offer.address) }
    }

    /// All offers, by name.
    var offers: [ServiceOffer] {
        routesByName.values.joined().map(\.offer).sorted {
            ($0.name, $0.address.description) < ($1.name, $1.address.description)
        }
    }
}
