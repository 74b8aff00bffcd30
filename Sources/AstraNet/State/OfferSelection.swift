/// Picks among several offers of one name (`docs/protocol.md` §3).
enum OfferSelection {
    /// - Parameters:
    ///   - offers: the candidates.
    ///   - name: theirs.
    ///   - bucket: the same bucket picks the same offer for as long as the set of offers stays the same; `nil` picks by
    ///     `draw`.
    ///   - draw: a random number. (Not a generator: the thread sanitizer crashes on `inout` access to one without
    ///     stored properties, as the system's is.)
    ///   - refused: addresses that are out of the question.
    ///   - leaving: links that nobody is to be sent over any more.
    ///   - isAvoided: whether an address is to be picked only where there is no other.
    /// - Returns: `nil` where there is no candidate.
    static func pick(
        among offers: NamedOffers, name: String, bucket: String?, draw: UInt64, except refused: Set<Address> = [],
        leaving: Set<ServiceRegistry.LinkID> = [], avoiding isAvoided: (Address) -> Bool = { _ in false }
    ) -> ServiceRegistry.Route? {
        guard !offers.isEmpty else { return nil }
        var best: (route: ServiceRegistry.Route, weight: UInt64, isAvoided: Bool)?
        let start = Int(draw % UInt64(offers.count))
        for step in 0..<offers.count {
            let position = (start + step) % offers.count
            let address = offers.address(at: position)
            guard !refused.contains(address) else { continue }
            let isAvoided = isAvoided(address)
            // Rendezvous hashing: each offer draws a weight from bucket and address, the highest wins. Every client that
            // sees the same offers picks the same one, and an offer that leaves moves only its own buckets.
            let weight = bucket.map { self.weight(of: address, for: $0) } ?? 0
            if let best, (best.isAvoided ? 0 : 1, best.weight) >= (isAvoided ? 0 : 1, weight) { continue }
            guard let route = offers.route(at: position, name: name, except: leaving) else { continue }
            // Without a bucket all weigh the same, and the first from a random start is taken.
            if bucket == nil, !isAvoided { return route }
            best = (route, weight, isAvoided)
        }
        return best?.route
    }

    /// FNV-1a over the bucket and the address, with a finalizer because FNV's high bits mix slowly.
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
