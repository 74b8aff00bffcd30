/// The offers of one name, each host and port once.
struct NamedOffers: Sendable {
    /// One address, and over which links it can be dialled.
    private struct Entry: Sendable {
        let address: Address
        /// Direct ones first.
        var ways: [(link: ServiceRegistry.LinkID, isRelayed: Bool)]
    }

    private var entries: [Entry] = []
    /// Where each address stands, once there are so many that looking through them would take long.
    private var index: [Address: Int]?
    private static let indexedFrom = 16
    /// How many links brought them, each address as often as links brought it.
    private var wayCount = 0
    /// How many each link brought, once there are many.
    private var counts: [ServiceRegistry.LinkID: Int]?

    /// How many hosts and ports offer the name.
    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    /// Whether `link` may bring one more where there may be `limit`: as many as are left, so that one that brings them without end
    /// leaves half to others, the next one half of that.
    func takesMore(from link: ServiceRegistry.LinkID, limit: Int) -> Bool {
        (counts?[link] ?? 0) < limit - wayCount
    }

    private func position(of address: Address) -> Int? {
        if let index { return index[address] }
        return entries.firstIndex { $0.address == address }
    }

    /// - Parameter leaving: links that are gone, of whose offers some are still here.
    /// - Returns: whether no other link offers the address in the same way.
    mutating func add(
        _ offer: ServiceOffer, _ link: ServiceRegistry.LinkID, except leaving: Set<ServiceRegistry.LinkID>
    ) -> Bool {
        wayCount += 1
        counts?[link, default: 0] += 1
        guard let position = position(of: offer.address) else {
            entries.append(Entry(address: offer.address, ways: [(link, offer.isRelayed)]))
            if index != nil {
                index?[offer.address] = entries.count - 1
            } else if entries.count > Self.indexedFrom {
                index = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.address, $0) })
                counts = entries.lazy.flatMap(\.ways).reduce(into: [:]) { $0[$1.link, default: 0] += 1 }
            }
            return true
        }
        let isFirst = !entries[position].ways.contains { $0.isRelayed == offer.isRelayed && !leaving.contains($0.link) }
        let place = offer.isRelayed ? entries[position].ways.endIndex : entries[position].ways.count { !$0.isRelayed }
        entries[position].ways.insert((link, offer.isRelayed), at: place)
        return isFirst
    }

    /// - Returns: whether no other link offers the address in the same way.
    mutating func remove(_ offer: ServiceOffer, _ link: ServiceRegistry.LinkID) -> Bool {
        guard let position = position(of: offer.address) else { return true }
        entries[position].ways.removeAll { $0.link == link && $0.isRelayed == offer.isRelayed }
        wayCount -= 1
        if let count = counts?[link] { counts?[link] = count > 1 ? count - 1 : nil }
        let isLast = !entries[position].ways.contains { $0.isRelayed == offer.isRelayed }
        if entries[position].ways.isEmpty {
            index?[offer.address] = nil
            let last = entries.removeLast()
            if position < entries.count {
                entries[position] = last
                index?[last.address] = position
            }
        }
        return isLast
    }

    /// The best way to the offer at `position` over a link that is not `leaving`; `nil` where there is none.
    func route(
        at position: Int, name: String, except leaving: Set<ServiceRegistry.LinkID> = []
    ) -> ServiceRegistry.Route? {
        let entry = entries[position]
        guard let way = leaving.isEmpty ? entry.ways.first : entry.ways.first(where: { !leaving.contains($0.link) })
        else { return nil }
        return ServiceRegistry.Route(
            link: way.link, offer: ServiceOffer(name: name, address: entry.address, isRelayed: way.isRelayed))
    }

    /// Whether any offer can be reached over a link that is not `leaving`.
    func hasWay(except leaving: Set<ServiceRegistry.LinkID>) -> Bool {
        leaving.isEmpty || entries.contains { $0.ways.contains { !leaving.contains($0.link) } }
    }

    func address(at position: Int) -> Address { entries[position].address }
}
