/// An offer of a service by a host, as received on a link.
public struct ServiceOffer: Hashable, Sendable {
    /// The full name of the service, with the environment suffix.
    public var name: String
    /// The address to dial.
    public var address: Address
    /// Whether the offer came through a router and not from the host itself (`docs/protocol.md` §3).
    public var isRelayed: Bool

    package init(name: String, address: Address, isRelayed: Bool) {
        self.name = name
        self.address = address
        self.isRelayed = isRelayed
    }
}

/// The offers from all links (`docs/protocol.md` §3).
package struct ServiceRegistry: Sendable {
    /// The number of a link, assigned by the node.
    package typealias LinkID = UInt64

    /// An offer and the link to dial it over.
    package struct Route: Hashable, Sendable {
        package var link: LinkID
        package var offer: ServiceOffer

        package init(link: LinkID, offer: ServiceOffer) {
            self.link = link
            self.offer = offer
        }
    }

    /// The offers by name.
    private var offers: [String: NamedOffers] = [:]
    /// The offers of one host on one link.
    fileprivate struct HostOffers: Sendable {
        private(set) var offers: Set<ServiceOffer> = []
        private(set) var places = 0

        mutating func add(_ offer: ServiceOffer) {
            if offers.insert(offer).inserted { places += ServiceRegistry.places(of: offer) }
        }

        /// - Returns: whether the offer was there.
        mutating func remove(_ offer: ServiceOffer) -> Bool {
            guard offers.remove(offer) != nil else { return false }
            places -= ServiceRegistry.places(of: offer)
            return true
        }
    }

    /// The offers of each link, by host.
    private var byLink: [LinkID: [HostID: HostOffers]] = [:]
    /// Those offers that hosts behind a router announced to this node only. The router does not withdraw them.
    private var privateOffers: [LinkID: [HostID: Set<ServiceOffer>]] = [:]
    private var counts: [LinkID: Int] = [:]
    private var places: [LinkID: Int] = [:]
    /// The number of relayed offers of each host.
    private var relayedCounts: [HostID: Int] = [:]

    /// The number of bytes of a name that count as one offer in the limit of a link.
    private static let bytesPerPlace = 128

    /// Returns how many times an offer counts in the limit. It makes long names and short names use the same memory at
    /// the limit.
    private static func places(of offer: ServiceOffer) -> Int {
        max(1, (offer.name.utf8.count + bytesPerPlace - 1) / bytesPerPlace)
    }

    /// Lost links that still have offers in the registry. They are not dialled any more.
    package private(set) var leaving: Set<LinkID> = []

    /// The maximum number of offers of one name. An offer counts once for each link that brought it.
    private let perName: Int

    package init(perName: Int = 1 << 19) {
        self.perName = perName
    }

    package enum AddResult: Hashable {
        /// - Parameter isFirst: whether this is the first offer of this name at this address, separately for direct and
        ///   relayed offers.
        case added(isFirst: Bool)
        case known
        case limitReached
    }

    /// Handles SERVICE: adds an offer from `link`.
    ///
    /// A link may bring at most `limit` offers, and fewer if names are longer than 128 bytes. Of one name, a link may
    /// bring no more while its share is at least the number of free places. The same holds for a host behind a router,
    /// within the limit of its link. So no link and no host can keep the offers of others out.
    ///
    /// - Parameter isPrivate: whether the offer was addressed to this node only.
    package mutating func add(_ offer: ServiceOffer, from link: LinkID, limit: Int, isPrivate: Bool = false)
        -> AddResult
    {
        if byLink[link]?[offer.address.host]?.offers.contains(offer) == true { return .known }
        guard hasCapacity(for: offer, from: link, limit: limit) else { return .limitReached }
        byLink[link, default: [:]][offer.address.host, default: HostOffers()].add(offer)
        places[link, default: 0] += Self.places(of: offer)
        if isPrivate { privateOffers[link, default: [:]][offer.address.host, default: []].insert(offer) }
        counts[link, default: 0] += 1
        if offer.isRelayed { relayedCounts[offer.address.host, default: 0] += 1 }
        return .added(isFirst: offers[offer.name, default: NamedOffers()].add(offer, link, except: leaving))
    }

    private func hasCapacity(for offer: ServiceOffer, from link: LinkID, limit: Int) -> Bool {
        let left = limit - (places[link] ?? 0)
        guard Self.places(of: offer) <= left else { return false }
        if offer.isRelayed, byLink[link]?[offer.address.host]?.places ?? 0 >= left { return false }
        return offers[offer.name]?.takesMore(from: link, limit: perName) ?? true
    }

    /// Returns the offers of `link`, and whether each was announced to this node only.
    func offers(of link: LinkID) -> [(offer: ServiceOffer, isPrivate: Bool)] {
        (byLink[link] ?? [:]).flatMap { host, hostOffers in
            hostOffers.offers.map { ($0, privateOffers[link]?[host]?.contains($0) ?? false) }
        }
    }

    /// Returns the number of offers from `link`.
    package func count(on link: LinkID) -> Int { counts[link] ?? 0 }

    /// Whether a router offers services of `host`.
    package func isRelayed(_ host: HostID) -> Bool { relayedCounts[host] != nil }

    /// Returns the names that the host of `address` offers there itself.
    func names(at address: Address) -> [String] {
        byLink.values.lazy.compactMap { $0[address.host] }.flatMap(\.offers).compactMap {
            $0.address == address && !$0.isRelayed ? $0.name : nil
        }
    }

    /// Returns a link to a router that offers services of `host`.
    package func router(of host: HostID) -> LinkID? {
        byLink.first { $0.value[host]?.offers.contains(where: \.isRelayed) ?? false }?.key
    }

    /// A removed offer.
    package struct Removal: Hashable, Sendable {
        package var offer: ServiceOffer
        /// Whether this was the last offer of this name at this address, separately for direct and relayed offers.
        package var isLast: Bool

        package init(offer: ServiceOffer, isLast: Bool) {
            self.offer = offer
            self.isLast = isLast
        }
    }

    /// Handles NO_SERVICE: removes an offer. Returns `nil` if it was not known.
    @discardableResult
    package mutating func remove(_ offer: ServiceOffer, from link: LinkID) -> Removal? {
        guard byLink[link]?[offer.address.host]?.remove(offer) == true else { return nil }
        places[link, default: 0] -= Self.places(of: offer)
        if byLink[link]?[offer.address.host]?.offers.isEmpty == true { byLink[link]?[offer.address.host] = nil }
        return drop(offer, from: link)
    }

    /// The offers of a lost link. If there are many, releasing them takes long, so it must not happen under a lock.
    package struct Gone: Sendable {
        fileprivate let offersByHost: [HostID: HostOffers]
        fileprivate let privateOffers: [HostID: Set<ServiceOffer>]

        /// Calls `body` with all offers, in pieces of `size`.
        package func inPieces(of size: Int, _ body: ([ServiceOffer]) -> Void) {
            var piece: [ServiceOffer] = []
            for offer in offersByHost.values.lazy.flatMap(\.offers) {
                piece.append(offer)
                guard piece.count == size else { continue }
                body(piece)
                piece = []
            }
            if !piece.isEmpty { body(piece) }
        }
    }

    /// Begins to remove a lost link, which is not dialled any more. The caller must remove its offers with
    /// ``drop(_:from:)`` and then call ``hasLeft(_:)``.
    package mutating func leaves(_ link: LinkID) -> Gone {
        leaving.insert(link)
        counts[link] = nil
        places[link] = nil
        return Gone(
            offersByHost: byLink.removeValue(forKey: link) ?? [:],
            privateOffers: privateOffers.removeValue(forKey: link) ?? [:])
    }

    /// Removes some offers of a lost link.
    package mutating func drop(_ gone: [ServiceOffer], from link: LinkID) -> [Removal] {
        gone.map { drop($0, from: link) }
    }

    /// Ends the removal of a lost link.
    package mutating func hasLeft(_ link: LinkID) {
        leaving.remove(link)
    }

    /// Handles RST: removes the offers that `host` announced to this node only. The router itself withdraws the other
    /// offers of the host, and may have announced them again before the RST.
    @discardableResult
    package mutating func remove(privateTo host: HostID, over link: LinkID) -> [Removal] {
        (privateOffers[link]?[host] ?? []).compactMap { remove($0, from: link) }
    }

    private mutating func drop(_ offer: ServiceOffer, from link: LinkID) -> Removal {
        if let count = counts[link] { counts[link] = count - 1 }
        if privateOffers[link]?[offer.address.host]?.remove(offer) != nil,
            privateOffers[link]?[offer.address.host]?.isEmpty == true
        {
            privateOffers[link]?[offer.address.host] = nil
        }
        if offer.isRelayed, let left = relayedCounts[offer.address.host] {
            relayedCounts[offer.address.host] = left > 1 ? left - 1 : nil
        }
        let isLast = offers[offer.name]?.remove(offer, link) ?? true
        if offers[offer.name]?.isEmpty == true { offers[offer.name] = nil }
        return Removal(offer: offer, isLast: isLast)
    }

    /// Whether a node offers `name`.
    package func hasOffer(of name: String, over path: NamePath? = nil) -> Bool {
        offers[name]?.hasWay(over: path, except: leaving) ?? false
    }

    /// Returns the offers of `name`, each host and port once. A direct offer wins over a relayed one of the same
    /// address (`docs/protocol.md` §3).
    package func candidates(for name: String) -> NamedOffers { offers[name] ?? NamedOffers() }

    /// All offers in no order. An offer occurs once for each link that brought it.
    var routes: [Route] {
        byLink.flatMap { link, hosts in hosts.values.lazy.flatMap(\.offers).map { Route(link: link, offer: $0) } }
    }

    /// All offers, ordered by name. An offer occurs once for each link that brought it.
    package var all: [Route] { Self.ordered(routes) }

    /// Sorts offers by name. For hundreds of thousands this takes a second, so it must not happen under a lock.
    static func ordered(_ routes: [Route]) -> [Route] {
        routes.sorted { one, other in
            let (first, second) = (one.offer.address, other.offer.address)
            return (one.offer.name, first.host.rawValue, first.port)
                < (other.offer.name, second.host.rawValue, second.port)
        }
    }

    /// Returns the direct offers that were announced to all nodes, each once, without those of `host`.
    func directOffers(except host: HostID) -> Set<ServiceOffer> {
        var direct: Set<ServiceOffer> = []
        for (link, hosts) in byLink {
            for (other, hostOffers) in hosts where other != host {
                let hidden = privateOffers[link]?[other] ?? []
                for offer in hostOffers.offers where !offer.isRelayed && !hidden.contains(offer) {
                    direct.insert(offer)
                }
            }
        }
        return direct
    }
}
