import AstraNet
import Testing

extension NamedOffers {
    /// The best route to each address.
    func routes(_ name: String) -> [ServiceRegistry.Route] { (0..<count).compactMap { route(at: $0, name: name) } }
}

extension ServiceRegistry {
    fileprivate func routes(for name: String) -> [Route] { candidates(for: name).routes(name) }
    fileprivate var offers: [ServiceOffer] { all.map(\.offer) }

    /// Removes a link and all of its offers.
    @discardableResult
    fileprivate mutating func removeAll(from link: LinkID) -> [Removal] {
        let gone = leaves(link)
        var removals: [Removal] = []
        gone.inPieces(of: 3) { removals += drop($0, from: link) }
        hasLeft(link)
        return removals
    }
}

@Suite struct ServiceRegistryTests {
    private static func offer(_ name: String, _ host: UInt64, _ port: UInt32 = 1, relayed: Bool = false) -> ServiceOffer
    {
        ServiceOffer(name: name, address: Address(HostID(rawValue: host), port), isRelayed: relayed)
    }

    @Test func `an offer is found until it is withdrawn`() {
        var registry = ServiceRegistry()
        let offer = Self.offer("echo", 7)
        #expect(registry.routes(for: "echo") == [])
        #expect(registry.add(offer, from: 1, limit: 10) == .added(isFirst: true))
        #expect(registry.routes(for: "echo") == [.init(link: 1, offer: offer)])
        #expect(registry.routes(for: "echo2") == [])
        registry.remove(offer, from: 1)
        #expect(registry.routes(for: "echo") == [])
        #expect(registry.offers == [])
        #expect(registry.count(on: 1) == 0)
    }

    @Test func `an offer is stored once per link`() {
        var registry = ServiceRegistry()
        let offer = Self.offer("echo", 7)
        #expect(registry.add(offer, from: 1, limit: 10) == .added(isFirst: true))
        #expect(registry.add(offer, from: 1, limit: 10) == .known)
        #expect(registry.add(offer, from: 2, limit: 10) == .added(isFirst: false))
        #expect(registry.count(on: 1) == 1)
        registry.remove(offer, from: 1)
        #expect(registry.routes(for: "echo").map(\.link) == [2])
    }

    @Test func `a link can withdraw only its own offers`() {
        var registry = ServiceRegistry()
        _ = registry.add(Self.offer("echo", 7), from: 1, limit: 10)
        registry.remove(Self.offer("echo", 7), from: 2)
        registry.remove(Self.offer("echo", 8), from: 1)
        registry.remove(Self.offer("echo", 7, 2), from: 1)
        registry.remove(Self.offer("other", 7), from: 1)
        #expect(registry.offers == [Self.offer("echo", 7)])
        #expect(registry.count(on: 1) == 1)
        #expect(registry.count(on: 2) == 0)
    }

    @Test func `the number of offers per link is limited`() {
        var registry = ServiceRegistry()
        #expect(registry.add(Self.offer("a", 7), from: 1, limit: 2) == .added(isFirst: true))
        #expect(registry.add(Self.offer("b", 7), from: 1, limit: 2) == .added(isFirst: true))
        #expect(registry.add(Self.offer("c", 7), from: 1, limit: 2) == .limitReached)
        #expect(registry.add(Self.offer("a", 7), from: 1, limit: 2) == .known)
        #expect(registry.add(Self.offer("c", 7), from: 2, limit: 2) == .added(isFirst: true))
        registry.remove(Self.offer("a", 7), from: 1)
        #expect(registry.add(Self.offer("c", 7), from: 1, limit: 2) == .added(isFirst: false))
    }

    @Test func `a direct offer is preferred over relayed ones`() {
        var registry = ServiceRegistry()
        let relayed = Self.offer("echo", 7, relayed: true)
        let direct = Self.offer("echo", 7)
        _ = registry.add(relayed, from: 1, limit: 10)
        #expect(registry.routes(for: "echo") == [.init(link: 1, offer: relayed)])
        _ = registry.add(direct, from: 2, limit: 10)
        #expect(registry.routes(for: "echo") == [.init(link: 2, offer: direct)])
        registry.remove(direct, from: 2)
        #expect(registry.routes(for: "echo") == [.init(link: 1, offer: relayed)])
    }

    @Test func `all offers of a link end with it`() {
        var registry = ServiceRegistry()
        for name in ["a", "b", "c"] {
            for host: UInt64 in [7, 8] {
                _ = registry.add(Self.offer(name, host), from: 1, limit: 10)
                _ = registry.add(Self.offer(name, host), from: 2, limit: 10)
            }
        }
        registry.removeAll(from: 1)
        #expect(registry.count(on: 1) == 0)
        #expect(registry.offers.count == 6)
        #expect(registry.routes(for: "a").map(\.link) == [2, 2])
        registry.removeAll(from: 2)
        #expect(registry.offers == [])
        #expect(registry.add(Self.offer("a", 7), from: 1, limit: 1) == .added(isFirst: true))
    }

    @Test func `no route uses a link that is being removed`() {
        var registry = ServiceRegistry()
        for host: UInt64 in 1...20 {
            _ = registry.add(Self.offer("echo", host), from: 1, limit: 100)
            _ = registry.add(Self.offer("only \(host)", host), from: 1, limit: 100)
        }
        _ = registry.add(Self.offer("echo", 20, relayed: true), from: 2, limit: 100)
        let gone = registry.leaves(1)
        var pieces: [Int] = []
        func pick(_ bucket: String?) -> ServiceRegistry.Route? {
            OfferSelection.pick(
                among: registry.candidates(for: "echo"), name: "echo", bucket: bucket, draw: 7,
                leaving: registry.leaving)
        }
        func look() {
            for bucket in [nil, "a", "b"] { #expect(pick(bucket)?.link == 2) }
            #expect(registry.hasOffer(of: "echo"))
            #expect((1...20).allSatisfy { !registry.hasOffer(of: "only \($0)") })
            #expect(registry.count(on: 1) == 0)
        }
        look()
        // An offer that arrives again on another link counts as the first, although the old one is still stored.
        #expect(registry.add(Self.offer("echo", 20), from: 3, limit: 100) == .added(isFirst: true))
        registry.remove(Self.offer("echo", 20), from: 3)
        var removals: [ServiceRegistry.Removal] = []
        gone.inPieces(of: 15) { offers in
            pieces.append(offers.count)
            removals += registry.drop(offers, from: 1)
            look()
        }
        registry.hasLeft(1)
        look()
        #expect(pieces == [15, 15, 10])
        #expect(removals.count == 40 && removals.allSatisfy(\.isLast))
        #expect(registry.offers == [Self.offer("echo", 20, relayed: true)])
    }

    @Test func `private offers of a host end with the route to it`() {
        var registry = ServiceRegistry()
        for link: UInt64 in [1, 2] {
            for host: UInt64 in [7, 8] {
                for (name, isPrivate) in [("a", true), ("b", false)] {
                    _ = registry.add(Self.offer(name, host, relayed: true), from: link, limit: 10, isPrivate: isPrivate)
                }
            }
        }
        let seven = HostID(rawValue: 7)
        #expect(registry.remove(privateTo: seven, over: 1).map(\.offer) == [Self.offer("a", 7, relayed: true)])
        #expect(registry.remove(privateTo: seven, over: 1) == [])
        let left = registry.all.map { "\($0.link) \($0.offer.name) \($0.offer.address.host.rawValue)" }
        #expect(Set(left) == ["1 a 8", "1 b 7", "1 b 8", "2 a 7", "2 a 8", "2 b 7", "2 b 8"])
        #expect(registry.count(on: 1) == 3 && registry.count(on: 2) == 4)
        // The public offers stay until the router withdraws them.
        #expect(registry.isRelayed(seven) && registry.router(of: seven) != nil)
        for link: UInt64 in [1, 2] { registry.remove(Self.offer("b", 7, relayed: true), from: link) }
        #expect(registry.router(of: seven) == 2)
        registry.removeAll(from: 2)
        #expect(!registry.isRelayed(seven) && registry.router(of: seven) == nil)
        #expect(registry.remove(privateTo: HostID(rawValue: 8), over: 2) == [])
    }

    @Test(arguments: [1, 15, 16, 17, 18, 40])
    func `each of many offers of one name is found and withdrawn individually`(count: UInt64) {
        var registry = ServiceRegistry()
        var offers: [ServiceOffer] = []
        for host in 1...count {
            let offer = Self.offer("echo", host, UInt32(host))
            #expect(registry.add(offer, from: host % 3, limit: 100) == .added(isFirst: true))
            #expect(registry.add(offer, from: host % 3, limit: 100) == .known)
            offers.append(offer)
        }
        // From the front, the back and the middle in turn.
        while !offers.isEmpty {
            #expect(Set(registry.routes(for: "echo").map(\.offer)) == Set(offers))
            let offer = offers.remove(at: [0, offers.count - 1, offers.count / 2][offers.count % 3])
            let link = offer.address.host.rawValue % 3
            #expect(registry.remove(offer, from: link + 1) == nil)
            #expect(registry.remove(offer, from: link)?.isLast == true)
            #expect(registry.remove(offer, from: link) == nil)
        }
        #expect(!registry.hasOffer(of: "echo"))
    }

    @Test func `among many offers the route to a host changes with its links`() {
        var registry = ServiceRegistry()
        for host: UInt64 in 1...30 {
            _ = registry.add(Self.offer("echo", host, relayed: true), from: 1, limit: 100)
        }
        #expect(registry.add(Self.offer("echo", 20, relayed: true), from: 2, limit: 100) == .added(isFirst: false))
        #expect(registry.add(Self.offer("echo", 20), from: 3, limit: 100) == .added(isFirst: true))
        func route() -> ServiceRegistry.Route? {
            registry.routes(for: "echo").first { $0.offer.address.host.rawValue == 20 }
        }
        #expect(route()?.link == 3)
        #expect(registry.removeAll(from: 3) == [.init(offer: Self.offer("echo", 20), isLast: true)])
        #expect(route()?.link == 1)
        #expect(registry.removeAll(from: 1).filter { !$0.isLast }.map(\.offer.address.host.rawValue) == [20])
        #expect(registry.routes(for: "echo").count == 1)
        #expect(route()?.link == 2)
    }

    /// Adds `count` offers of one name, each from another host, over one link. Returns how many were accepted.
    private static func flood(_ registry: inout ServiceRegistry, from link: UInt64, count: UInt64 = 200) -> Int {
        (1...count).count {
            registry.add(offer("echo", link * 1_000 + $0), from: link, limit: .max) == .added(isFirst: true)
        }
    }

    @Test func `a link that floods a name with offers leaves space for other links`() {
        var registry = ServiceRegistry(perName: 128)
        #expect(Self.flood(&registry, from: 1) == 64)
        #expect(Self.flood(&registry, from: 2) == 32)
        #expect(Self.flood(&registry, from: 3) == 16)
        #expect(Self.flood(&registry, from: 4, count: 1) == 1)
        #expect(registry.add(Self.offer("other", 1), from: 1, limit: .max) == .added(isFirst: true))
        // Removed offers free space. A new link may take half of the free space, because it must leave the same for
        // others.
        registry.removeAll(from: 1)
        #expect(Self.flood(&registry, from: 5) == 40)
        #expect(registry.routes(for: "echo").count == 89)
    }

    @Test func `a relayed host that floods offers leaves space for other relayed hosts`() {
        var registry = ServiceRegistry()
        func flood(_ host: UInt64, relayed: Bool) -> Int {
            (1...100).count {
                registry.add(Self.offer("\(host)-\($0)", host, relayed: relayed), from: 1, limit: 100)
                    == .added(isFirst: true)
            }
        }
        #expect(flood(1, relayed: true) == 50)
        #expect(flood(2, relayed: true) == 25)
        // The link's direct peer may use the rest.
        #expect(flood(3, relayed: false) == 25)
        #expect(flood(4, relayed: true) == 0)
    }

    @Test func `a long name counts as several offers`() {
        var registry = ServiceRegistry()
        func add(_ length: Int, _ host: UInt64, relayed: Bool = false) -> ServiceRegistry.AddResult {
            let offer = Self.offer(String(repeating: "n", count: length), host, relayed: relayed)
            return registry.add(offer, from: 1, limit: 17)
        }
        #expect(add(128, 1) == .added(isFirst: true))
        #expect(add(1_024, 1) == .added(isFirst: true))
        #expect(add(1_023, 1) == .added(isFirst: true))
        #expect(add(1, 1) == .limitReached)
        registry.remove(Self.offer(String(repeating: "n", count: 1_023), 1), from: 1)
        #expect(add(129, 2, relayed: true) == .added(isFirst: true))
        #expect(add(5 * 128, 2, relayed: true) == .added(isFirst: true))
        #expect(add(1, 2, relayed: true) == .limitReached, "a relayed host may not use more than it leaves free")
        #expect(add(129, 1) == .limitReached)
        #expect(add(127, 1) == .added(isFirst: true))
        registry.removeAll(from: 1)
        #expect(add(17 * 128, 1) == .added(isFirst: true))
    }

    /// Explores every sequence of four steps.
    @Test func `the counts match the offers after every sequence of steps`() {
        let offers = [Self.offer("a", 7), Self.offer("a", 8), Self.offer("b", 7)]
        func explore(_ registry: ServiceRegistry, depth: Int) {
            let found = ["a", "b"].flatMap { registry.routes(for: $0) }
            for link: UInt64 in [1, 2] {
                #expect(registry.count(on: link) == registry.all.filter { $0.link == link }.count)
            }
            #expect(Set(found.map(\.offer)) == Set(registry.offers) && Set(found.map(\.offer)).count == found.count)
            #expect(["a", "b"].allSatisfy { registry.hasOffer(of: $0) != registry.routes(for: $0).isEmpty })
            guard depth > 0 else { return }
            for link: UInt64 in [1, 2] {
                for offer in offers {
                    var added = registry
                    _ = added.add(offer, from: link, limit: 2)
                    explore(added, depth: depth - 1)
                    var removed = registry
                    removed.remove(offer, from: link)
                    if removed.offers.count != registry.offers.count { explore(removed, depth: depth - 1) }
                }
                var closed = registry
                closed.removeAll(from: link)
                if closed.offers.count != registry.offers.count { explore(closed, depth: depth - 1) }
            }
        }
        explore(ServiceRegistry(), depth: 4)
    }
}

@Suite struct OfferSelectionTests {
    private static let routes = (1...20).map { host in
        ServiceRegistry.Route(
            link: UInt64(host),
            offer: ServiceOffer(
                name: "echo", address: Address(HostID(rawValue: UInt64(host)), 16_777_217), isRelayed: false))
    }

    private static func offers(_ routes: [ServiceRegistry.Route]) -> NamedOffers {
        var registry = ServiceRegistry()
        for route in routes { _ = registry.add(route.offer, from: route.link, limit: 1) }
        return registry.candidates(for: "echo")
    }
    private static let buckets = (0..<1_000).map { "bucket \($0)" }

    private static func pick(_ bucket: String?, among routes: [ServiceRegistry.Route] = routes)
        -> ServiceRegistry.Route?
    {
        OfferSelection.pick(among: offers(routes), name: "echo", bucket: bucket, draw: 7)
    }

    @Test func `nothing is picked without offers`() {
        #expect(Self.pick(nil, among: []) == nil)
        #expect(Self.pick("a", among: []) == nil)
    }

    @Test func `a bucket maps to the same offer in any order of the offers`() {
        for bucket in Self.buckets {
            #expect(Self.pick(bucket) == Self.pick(bucket, among: Self.routes.reversed()))
        }
    }

    @Test func `buckets are distributed over all offers`() {
        let counts = Dictionary(grouping: Self.buckets) { Self.pick($0) }.mapValues(\.count)
        #expect(counts.count == Self.routes.count)
        #expect(counts.values.allSatisfy { $0 > 20 && $0 < 90 }, "\(counts.values)")
    }

    @Test func `a withdrawn offer moves only its own buckets`() {
        for gone in Self.routes {
            let left = Self.routes.filter { $0 != gone }
            for bucket in Self.buckets.prefix(200) {
                let before = Self.pick(bucket)
                let after = Self.pick(bucket, among: left)
                if before == gone {
                    #expect(after != nil)
                } else {
                    #expect(after == before)
                }
            }
        }
    }

    @Test func `a new offer takes buckets only for itself`() {
        let known = Array(Self.routes.dropLast())
        for bucket in Self.buckets {
            let after = Self.pick(bucket)
            #expect(after == Self.routes.last || after == Self.pick(bucket, among: known))
        }
    }

    @Test func `without a bucket every offer is picked`() {
        let picked = (0..<20).map {
            OfferSelection.pick(among: Self.offers(Self.routes), name: "echo", bucket: nil, draw: UInt64.max - $0)
        }
        #expect(Set(picked).count == Self.routes.count)
    }

    @Test(arguments: [nil, "a bucket"])
    func `failed offers are picked last and refused offers never`(bucket: String?) {
        let offers = Self.offers(Self.routes)
        var refused: Set<Address> = []
        let avoided = Set(Self.routes.prefix(10).map(\.offer.address))
        var order: [Address] = []
        while let route = OfferSelection.pick(
            among: offers, name: "echo", bucket: bucket, draw: 3, except: refused,
            avoiding: { avoided.contains($0.offer.address) })
        {
            order.append(route.offer.address)
            refused.insert(route.offer.address)
        }
        #expect(order.count == 20 && Set(order.suffix(10)) == avoided)
    }

    @Test func `only the path over which a name was received is picked`() {
        var registry = ServiceRegistry()
        let host = HostID(rawValue: 1)
        func add(_ host: HostID, _ link: ServiceRegistry.LinkID, isRelayed: Bool = false) {
            let offer = ServiceOffer(name: "source", address: Address(host: host, port: 7), isRelayed: isRelayed)
            _ = registry.add(offer, from: link, limit: 10)
        }
        add(host, 1)
        add(host, 2, isRelayed: true)
        add(HostID(rawValue: 2), 3)
        func pick(_ path: NamePath) -> [ServiceRegistry.LinkID?] {
            (0..<10).map {
                OfferSelection.pick(
                    among: registry.candidates(for: "source"), name: "source", over: path, bucket: nil, draw: $0)?.link
            }
        }
        #expect(Set(pick(NamePath(host: host, links: [1]))) == [1])
        #expect(Set(pick(NamePath(host: host, links: [2]))) == [2])
        for links: Set<ServiceRegistry.LinkID> in [[3], []] {
            #expect(Set(pick(NamePath(host: host, links: links))) == [nil])
            #expect(!registry.hasOffer(of: "source", over: NamePath(host: host, links: links)))
        }
        #expect(registry.hasOffer(of: "source", over: NamePath(host: host, links: [2])))
    }

    @Test(arguments: [nil, "a bucket"])
    func `offers over links that go away are picked last, and another link to the same address first`(
        bucket: String?
    ) {
        var registry = ServiceRegistry()
        let address = Address(host: HostID(rawValue: 1), port: 7)
        let relayed = ServiceOffer(name: "echo", address: address, isRelayed: true)
        let old = ServiceOffer(name: "echo", address: Address(host: HostID(rawValue: 2), port: 7), isRelayed: false)
        _ = registry.add(relayed, from: 1, limit: 10)
        _ = registry.add(old, from: 2, limit: 10)
        func pick(_ goingAway: Set<ServiceRegistry.LinkID>) -> [ServiceRegistry.LinkID?] {
            (0..<20).map {
                OfferSelection.pick(
                    among: registry.candidates(for: "echo"), name: "echo", bucket: bucket, draw: $0,
                    goingAway: goingAway)?.link
            }
        }
        #expect(Set(pick([2])) == [1])
        #expect(Set(pick([1])) == [2])
        #expect(pick([1, 2]).allSatisfy { $0 != nil }, "a link that goes away serves if there is no other")
        _ = registry.add(relayed, from: 3, limit: 10)
        #expect(Set(pick([1, 2])) == [3])
    }
}
