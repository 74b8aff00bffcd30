/// An offer of a service by some host, as learnt over a link.
public struct ServiceOffer: Hashable, Sendable {
    /// The service's full name, environment suffix included.
    public var name: String
    /// Where to dial it.
    public var address: Address
    /// Whether it came through a router instead of from the host itself (`docs/protocol.md` §3).
    public var isRelayed: Bool
}

/// Who offers what: all SERVICEs learnt on all links (`docs/protocol.md` §3).
struct ServiceRegistry: Sendable {
    /// Tells links apart; handed out by the node.
    typealias LinkID = UInt64

    /// An offer together with the link to dial it over.
    struct Route: Hashable, Sendable {
        var link: LinkID
        var offer: ServiceOffer
    }

    /// One name.
    private var offers: [String: NamedOffers] = [:]
    /// What one host offers over one link.
    fileprivate struct Brought: Sendable {
        private(set) var offers: Set<ServiceOffer> = []
        private(set) var places = 0

        mutating func add(_ offer: ServiceOffer) {
            if offers.insert(offer).inserted { places += ServiceRegistry.places(of: offer) }
        }

        /// - Returns: whether it was there.
        mutating func remove(_ offer: ServiceOffer) -> Bool {
            guard offers.remove(offer) != nil else { return false }
            places -= ServiceRegistry.places(of: offer)
            return true
        }
    }

    /// What came over each link, by the host that offers it.
    private var byLink: [LinkID: [HostID: Brought]] = [:]
    /// Of those, what hosts behind a router told this node alone, past the router, who does not withdraw it for them.
    private var told: [LinkID: [HostID: Set<ServiceOffer>]] = [:]
    private var counts: [LinkID: Int] = [:]
    private var places: [LinkID: Int] = [:]
    /// How many relayed offers each host has.
    private var relayedCounts: [HostID: Int] = [:]

    /// So many bytes of an offer's name take one place of those that a link has.
    private static let bytesPerPlace = 128

    /// How many places an offer takes: as many services as a link may bring take no more memory with long names than with short ones.
    private static func places(of offer: ServiceOffer) -> Int {
        max(1, (offer.name.utf8.count + bytesPerPlace - 1) / bytesPerPlace)
    }

    /// Links that are gone, of whose offers some are still to be dropped: nobody is sent that way.
    private(set) var leaving: Set<LinkID> = []

    /// How many offers there may be of one name, each as often as links brought it.
    private let perName: Int

    init(perName: Int = 1 << 19) {
        self.perName = perName
    }

    enum AddResult: Hashable {
        /// - Parameter isFirst: nobody had offered this name at this address before, in the same way (direct or relayed).
        case added(isFirst: Bool)
        case known
        case limitReached
    }

    /// SERVICE: `link` brought an offer. A link may bring at most `limit` of them, fewer where names are longer than 128 bytes, of
    /// one name as many as it leaves to others, and so may a host behind a router of what that link may bring: who offers without
    /// end keeps nobody else out.
    ///
    /// - Parameter isTold: whether it was addressed to this node alone.
    mutating func add(_ offer: ServiceOffer, from link: LinkID, limit: Int, isTold: Bool = false) -> AddResult {
        if byLink[link]?[offer.address.host]?.offers.contains(offer) == true { return .known }
        guard hasRoom(for: offer, from: link, limit: limit) else { return .limitReached }
        byLink[link, default: [:]][offer.address.host, default: Brought()].add(offer)
        places[link, default: 0] += Self.places(of: offer)
        if isTold { told[link, default: [:]][offer.address.host, default: []].insert(offer) }
        counts[link, default: 0] += 1
        if offer.isRelayed { relayedCounts[offer.address.host, default: 0] += 1 }
        return .added(isFirst: offers[offer.name, default: NamedOffers()].add(offer, link, except: leaving))
    }

    private func hasRoom(for offer: ServiceOffer, from link: LinkID, limit: Int) -> Bool {
        let left = limit - (places[link] ?? 0)
        guard Self.places(of: offer) <= left else { return false }
        if offer.isRelayed, byLink[link]?[offer.address.host]?.places ?? 0 >= left { return false }
        return offers[offer.name]?.takesMore(from: link, limit: perName) ?? true
    }

    /// How many offers came over `link`.
    func count(on link: LinkID) -> Int { counts[link] ?? 0 }

    /// Whether some router speaks of `host`.
    func isRelayed(_ host: HostID) -> Bool { relayedCounts[host] != nil }

    /// A link over which `host` was heard of through a router.
    func router(of host: HostID) -> LinkID? {
        byLink.first { $0.value[host]?.offers.contains(where: \.isRelayed) ?? false }?.key
    }

    /// An offer that is gone.
    struct Removal: Hashable, Sendable {
        var offer: ServiceOffer
        /// Nobody offers this name at this address any more, in the same way (direct or relayed).
        var isLast: Bool
    }

    /// NO_SERVICE: the offer is no more. `nil` where it was not known.
    @discardableResult
    mutating func remove(_ offer: ServiceOffer, from link: LinkID) -> Removal? {
        guard byLink[link]?[offer.address.host]?.remove(offer) == true else { return nil }
        places[link, default: 0] -= Self.places(of: offer)
        if byLink[link]?[offer.address.host]?.offers.isEmpty == true { byLink[link]?[offer.address.host] = nil }
        return drop(offer, from: link)
    }

    /// What came over a link that is gone. Where it is much, letting go of it takes a while: not for under a lock.
    struct Gone: Sendable {
        fileprivate let brought: [HostID: Brought]
        fileprivate let told: [HostID: Set<ServiceOffer>]

        /// All of it, so many offers at a time.
        func inPieces(of size: Int, _ body: ([ServiceOffer]) -> Void) {
            var piece: [ServiceOffer] = []
            for offer in brought.values.lazy.flatMap(\.offers) {
                piece.append(offer)
                guard piece.count == size else { continue }
                body(piece)
                piece = []
            }
            if !piece.isEmpty { body(piece) }
        }
    }

    /// The link is gone. All that came over it is to be dropped with ``drop(_:from:)``, and then ``hasLeft(_:)`` called; nobody is
    /// sent that way from now on.
    mutating func leaves(_ link: LinkID) -> Gone {
        leaving.insert(link)
        counts[link] = nil
        places[link] = nil
        return Gone(brought: byLink.removeValue(forKey: link) ?? [:], told: told.removeValue(forKey: link) ?? [:])
    }

    /// Some of what came over a link that is gone.
    mutating func drop(_ gone: [ServiceOffer], from link: LinkID) -> [Removal] {
        gone.map { drop($0, from: link) }
    }

    /// All that came over the link was dropped.
    mutating func hasLeft(_ link: LinkID) {
        leaving.remove(link)
    }

    /// A router lost `host`: what that host told this node alone is no more. The rest the router withdraws by itself, and may
    /// have announced anew before it says so.
    @discardableResult
    mutating func remove(toldBy host: HostID, over link: LinkID) -> [Removal] {
        (told[link]?[host] ?? []).compactMap { remove($0, from: link) }
    }

    private mutating func drop(_ offer: ServiceOffer, from link: LinkID) -> Removal {
        if let count = counts[link] { counts[link] = count - 1 }
        if told[link]?[offer.address.host]?.remove(offer) != nil, told[link]?[offer.address.host]?.isEmpty == true {
            told[link]?[offer.address.host] = nil
        }
        if offer.isRelayed, let left = relayedCounts[offer.address.host] {
            relayedCounts[offer.address.host] = left > 1 ? left - 1 : nil
        }
        let isLast = offers[offer.name]?.remove(offer, link) ?? true
        if offers[offer.name]?.isEmpty == true { offers[offer.name] = nil }
        return Removal(offer: offer, isLast: isLast)
    }

    /// Whether somebody offers `name`.
    func hasOffer(of name: String) -> Bool { offers[name]?.hasWay(except: leaving) ?? false }

    /// Who offers `name`, each host and port once: a direct offer wins over a relayed one of the same (`docs/protocol.md` §3).
    func candidates(for name: String) -> NamedOffers { offers[name] ?? NamedOffers() }

    /// All offers, each as often as links brought it, in no order.
    var routes: [Route] {
        byLink.flatMap { link, hosts in hosts.values.lazy.flatMap(\.offers).map { Route(link: link, offer: $0) } }
    }

    /// All offers: by name, and each as often as links brought it.
    var all: [Route] { Self.ordered(routes) }

    /// By name. Takes a second for hundreds of thousands: not for under a lock.
    static func ordered(_ routes: [Route]) -> [Route] {
        routes.sorted { one, other in
            let (first, second) = (one.offer.address, other.offer.address)
            return (one.offer.name, first.host.rawValue, first.port)
                < (other.offer.name, second.host.rawValue, second.port)
        }
    }

    /// The offers that came from the hosts themselves, each once, without those of `host`.
    func directOffers(except host: HostID) -> Set<ServiceOffer> {
        var direct: Set<ServiceOffer> = []
        for (other, brought) in byLink.values.joined() where other != host {
            for offer in brought.offers where !offer.isRelayed { direct.insert(offer) }
        }
        return direct
    }
}
