/// Picks among several offers of one name (protocol section 3).
enum OfferSelection {
    /// - Parameters:
    ///   - routes: the candidates.
    ///   - bucket: the same bucket picks the same offer for as long as the set of offers stays the same; `nil` picks by
    ///     `draw`.
    ///   - draw: a random number. (Not a generator: the thread sanitizer crashes on `inout` access to one without
    ///     stored properties, as the system's is.)
    /// - Returns: `nil` where there is no candidate.
    static func pick(
        among routes: [ServiceRegistry.Route], bucket: String?, draw: UInt64
    ) -> ServiceRegistry.Route? {
        guard !routes.isEmpty else { return nil }
        guard let bucket else { return routes[Int(draw % UInt64(routes.count))] }
        // Rendezvous hashing: each offer draws a weight from bucket and address, the highest wins. Every client that
        // sees the same offers picks the same one, and an offer that leaves moves only its own buckets.
        return routes.max { weight(of: $0.offer.address, for: bucket) < weight(of: $1.offer.address, for: bucket) }
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
