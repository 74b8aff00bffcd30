/// The relation between the links of a router: which links ops were forwarded between.
package struct ForwardingRelation: Sendable {
    package typealias LinkID = ServiceRegistry.LinkID

    private var peers: [LinkID: Set<LinkID>] = [:]

    package init() {}

    /// Returns the links that ops were forwarded to or from `link`.
    package func peers(of link: LinkID) -> Set<LinkID> { peers[link] ?? [] }

    /// Records that ops are forwarded between two links.
    package mutating func relate(_ link: LinkID, _ other: LinkID) {
        peers[other, default: []].insert(link)
        peers[link, default: []].insert(other)
    }

    /// Removes a lost link.
    ///
    /// - Returns: the links that ops were forwarded to or from it.
    package mutating func remove(_ link: LinkID) -> Set<LinkID> {
        guard let related = peers.removeValue(forKey: link) else { return [] }
        for other in related {
            peers[other]?.remove(link)
            if peers[other]?.isEmpty == true { peers[other] = nil }
        }
        return related
    }
}
