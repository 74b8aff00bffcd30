/// The path over which a node received a name on a stream: the host that sent it, and all links to the peer at the other
/// end of the stream's link.
///
/// Only offers of this path are dialled. Another host could announce a name that it has learned, also under the id of
/// the host at a router that the host has no link with.
package struct NamePath: Sendable {
    package var host: HostID
    package var links: Set<ServiceRegistry.LinkID>

    package init(host: HostID, links: Set<ServiceRegistry.LinkID>) {
        self.host = host
        self.links = links
    }
}

/// The offers of one name. Each host and port occurs once.
package struct NamedOffers: Sendable {
    /// An address and the links over which it can be dialled.
    private struct Entry: Sendable {
        let address: Address
        /// The links, direct ones first.
        var routes: [(link: ServiceRegistry.LinkID, isRelayed: Bool)]

        func route(
            over path: NamePath?, except leaving: Set<ServiceRegistry.LinkID>
        ) -> (link: ServiceRegistry.LinkID, isRelayed: Bool)? {
            if path == nil, leaving.isEmpty { return routes.first }
            guard path == nil || path?.host == address.host else { return nil }
            return routes.first { !leaving.contains($0.link) && path?.links.contains($0.link) ?? true }
        }
    }

    private var entries: [Entry] = []
    /// The position of each address in the entries. It exists only for many entries, where a linear search would take
    /// long.
    private var index: [Address: Int]?
    private static let indexThreshold = 16
    /// The number of offers. An address counts once for each link that brought it.
    private var routeCount = 0
    /// The number of offers of each link. It exists only for many entries.
    private var counts: [ServiceRegistry.LinkID: Int]?

    /// The number of addresses that offer the name.
    package var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    /// Whether `link` may add another offer, with a total of at most `limit`. A link may add offers while its share is
    /// smaller than the number of free places. So the first link leaves half of them, and the next one half of the
    /// rest.
    func takesMore(from link: ServiceRegistry.LinkID, limit: Int) -> Bool {
        (counts?[link] ?? 0) < limit - routeCount
    }

    private func position(of address: Address) -> Int? {
        if let index { return index[address] }
        return entries.firstIndex { $0.address == address }
    }

    /// - Parameter leaving: lost links that still have offers here.
    /// - Returns: whether this is the first offer of the address, separately for direct and relayed offers.
    mutating func add(
        _ offer: ServiceOffer, _ link: ServiceRegistry.LinkID, except leaving: Set<ServiceRegistry.LinkID>
    ) -> Bool {
        routeCount += 1
        counts?[link, default: 0] += 1
        guard let position = position(of: offer.address) else {
            entries.append(Entry(address: offer.address, routes: [(link, offer.isRelayed)]))
            if index != nil {
                index?[offer.address] = entries.count - 1
            } else if entries.count > Self.indexThreshold {
                index = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.address, $0) })
                counts = entries.lazy.flatMap(\.routes).reduce(into: [:]) { $0[$1.link, default: 0] += 1 }
            }
            return true
        }
        let isFirst = !entries[position].routes.contains {
            $0.isRelayed == offer.isRelayed && !leaving.contains($0.link)
        }
        let index =
            offer.isRelayed ? entries[position].routes.endIndex : entries[position].routes.count { !$0.isRelayed }
        entries[position].routes.insert((link, offer.isRelayed), at: index)
        return isFirst
    }

    /// - Returns: whether this was the last offer of the address, separately for direct and relayed offers.
    mutating func remove(_ offer: ServiceOffer, _ link: ServiceRegistry.LinkID) -> Bool {
        guard let position = position(of: offer.address) else { return true }
        entries[position].routes.removeAll { $0.link == link && $0.isRelayed == offer.isRelayed }
        routeCount -= 1
        if let count = counts?[link] { counts?[link] = count > 1 ? count - 1 : nil }
        let isLast = !entries[position].routes.contains { $0.isRelayed == offer.isRelayed }
        if entries[position].routes.isEmpty {
            index?[offer.address] = nil
            let last = entries.removeLast()
            if position < entries.count {
                entries[position] = last
                index?[last.address] = position
            }
        }
        return isLast
    }

    /// Returns the best route to the offer at `position` over a link that is not in `leaving`; `nil` if there is none.
    ///
    /// - Parameter path: the only path that counts; `nil` for any.
    package func route(
        at position: Int, name: String, over path: NamePath? = nil, except leaving: Set<ServiceRegistry.LinkID> = []
    ) -> ServiceRegistry.Route? {
        let entry = entries[position]
        guard let route = entry.route(over: path, except: leaving) else { return nil }
        return ServiceRegistry.Route(
            link: route.link, offer: ServiceOffer(name: name, address: entry.address, isRelayed: route.isRelayed))
    }

    /// Whether an offer can be reached over a link that is not in `leaving`.
    ///
    /// - Parameter path: the only path that counts; `nil` for any.
    func hasWay(over path: NamePath?, except leaving: Set<ServiceRegistry.LinkID>) -> Bool {
        path == nil && leaving.isEmpty || entries.contains { $0.route(over: path, except: leaving) != nil }
    }

    func address(at position: Int) -> Address { entries[position].address }
}
