/// The selection among several offers of one name (`docs/protocol.md` §3).
package enum OfferSelection {
    /// Picks an offer.
    ///
    /// - Parameters:
    ///   - offers: the candidates.
    ///   - name: the name of the candidates.
    ///   - bucket: the same bucket picks the same offer as long as the set of offers stays the same. `nil` picks by
    ///     `draw`.
    ///   - draw: a random number. It is not a generator, because the thread sanitizer crashes on `inout` access to a
    ///     generator without stored properties, such as the system's.
    ///   - path: the only path that may be picked; `nil` for any.
    ///   - refused: addresses that must not be picked.
    ///   - leaving: links that must not be used any more.
    ///   - goingAway: links that are used only if there is no other, because their peers have sent GOAWAY.
    ///   - isAvoided: whether a route is picked only if there is no other.
    /// - Returns: the route; `nil` if there is no candidate.
    package static func pick(
        among offers: NamedOffers, name: String, over path: NamePath? = nil, bucket: String?, draw: UInt64,
        except refused: Set<Address> = [],
        leaving: Set<ServiceRegistry.LinkID> = [], goingAway: Set<ServiceRegistry.LinkID> = [],
        avoiding isAvoided: (ServiceRegistry.Route) -> Bool = { _ in false }
    ) -> ServiceRegistry.Route? {
        guard !offers.isEmpty else { return nil }
        var best: (route: ServiceRegistry.Route, weight: UInt64, isAvoided: Bool)?
        let avoided = goingAway.isEmpty ? leaving : leaving.union(goingAway)
        let start = Int(draw % UInt64(offers.count))
        for step in 0..<offers.count {
            let position = (start + step) % offers.count
            let address = offers.address(at: position)
            guard !refused.contains(address) else { continue }
            // The same address may be offered over a link that goes away and over another one, by two routers.
            guard
                let route = offers.route(at: position, name: name, over: path, except: avoided)
                    ?? offers.route(at: position, name: name, over: path, except: leaving)
            else { continue }
            let isAvoided = goingAway.contains(route.link) || isAvoided(route)
            // Rendezvous hashing: each offer gets a weight from bucket and address, and the highest weight wins. All
            // clients with the same offers pick the same one, and only the buckets of a lost offer move.
            let weight = bucket.map { self.weight(of: address, for: $0) } ?? 0
            if let best, (best.isAvoided ? 0 : 1, best.weight) >= (isAvoided ? 0 : 1, weight) { continue }
            // Without a bucket all weights are equal, so the first offer from a random start is taken.
            if bucket == nil, !isAvoided { return route }
            best = (route, weight, isAvoided)
        }
        return best?.route
    }

    /// Returns the FNV-1a hash of bucket and address. The finalizer is needed because the high bits of FNV mix slowly.
    private static func weight(of address: Address, for bucket: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        func mix(_ byte: UInt8) {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
        }
        for byte in bucket.utf8 { mix(byte) }
        for shift in stride(from: 0, to: 64, by: 8) { mix(UInt8(truncatingIfNeeded: address.host.rawValue >> shift)) }
        for shift in stride(from: 0, to: 32, by: 8) { mix(UInt8(truncatingIfNeeded: address.port >> shift)) }
        hash = (hash ^ (hash >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        hash = (hash ^ (hash >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return hash ^ (hash >> 33)
    }
}
