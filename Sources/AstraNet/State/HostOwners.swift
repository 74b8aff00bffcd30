internal import DequeModule

/// The identities to which host ids belong. A host id belongs to the first peer with it that the access rules name.
///
/// Without this memory, a peer could take the id of a host that has just lost its link. This node would then neither
/// accept nor dial the host, because it has a link to that id, and a router would forward dials to the wrong peer.
struct HostOwners {
    /// The maximum number of hosts (4,096). Beyond it, the oldest are forgotten.
    private static let limit = 4_096

    private var owners: [HostID: Set<String>] = [:]
    private var order: Deque<HostID> = []

    /// The decision about a peer that claims a host id.
    enum Claim: Hashable {
        case accepted
        /// The host id belongs to another identity.
        case refused
        /// The host id belongs to the peer. Links of other peers with it must be closed.
        case displaces
    }

    /// Decides about a peer that claims a host id.
    ///
    /// - Parameter others: the identities of the links that are up with this host id.
    func claim(_ host: HostID, by identity: LinkIdentity, besides others: [LinkIdentity]) -> Claim {
        guard identity.rules != nil else { return .accepted }
        if let owner = owners[host], owner.isDisjoint(with: identity.identities) { return .refused }
        guard others.contains(where: { !$0.isSame(as: identity) }) else { return .accepted }
        // A peer that no rule names has no right to an id.
        guard !identity.identities.isEmpty, others.allSatisfy(\.identities.isEmpty) else { return .refused }
        return .displaces
    }

    /// Records that a peer has a host id.
    mutating func record(_ identity: LinkIdentity, of host: HostID) {
        guard !identity.identities.isEmpty else { return }
        if owners.updateValue(Set(identity.identities), forKey: host) == nil { order.append(host) }
        if order.count > Self.limit { owners[order.removeFirst()] = nil }
    }

    /// Forgets all hosts, because the rules have other names now.
    mutating func removeAll() {
        owners = [:]
        order = []
    }
}
